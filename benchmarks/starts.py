"""
How long a bridge takes from its process's start until it is subscribed, and the CPU.

Starts it again and again, each time with an outbox of its own, on a real Kafka and a
real soketi; another working tree of the project in turns with this one, if it is named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import bridge
from benchmarks.figures import spread
from benchmarks.tables import table, write
from benchmarks.telling import say
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


_HERE = Path(bridge.__file__).parent.parent

_CLIENT_ID = "starting"

_PARTITIONS = 6

_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class _Start:
    """Seconds from the start of a process: until it serves, is subscribed; its CPU."""

    serving: float
    subscribed: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0; 1 if a bridge ended before it was subscribed.
    """
    options = _options(arguments)
    trees = [_HERE, *options.beside]
    starts: dict[Path, list[_Start]] = {tree: [] for tree in trees}
    topic = f"starts-{uuid.uuid4().hex[:12]}"
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
        SoketiServer() as soketi,
        DryApi(soketi, {_CLIENT_ID: "any"}).serving() as dryapi,
    ):
        for name, count in ((topic, _PARTITIONS), (f"{topic}.dlq", 1)):
            kafka.create_topic(name, count)
        kafka.create_topic(f"{topic}.gaps", 1)
        settings = {
            "BRIDGE_CLIENT_ID": _CLIENT_ID,
            "BRIDGE_API_TOKEN": "any",
            "BRIDGE_API_URL": dryapi.url,
            "BRIDGE_PUSHER_URL": soketi.url,
            "BRIDGE_PUSHER_APP_KEY": soketi.app.key,
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "BRIDGE_OPERATIONS_LISTEN": "127.0.0.1:0",
            "BRIDGE_LOG_FORMAT": "json",
            # Compiled as an installed one is, whatever the trees have or may write.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled"),
        }
        # The first one of each compiles its modules, and is not counted.
        for number in range(options.runs + 1):
            for place, tree in enumerate(trees):
                outbox = Path(folder) / f"{place}-{number}"
                own = {"BRIDGE_OUTBOX_DIR": str(outbox), "PYTHONPATH": str(tree)}
                start = _start(topic, settings | own, Path(folder))
                if start is None:
                    say("make bench-starts: the bridge ended before it was subscribed")
                    return 1
                if number:
                    starts[tree].append(start)
    rows = [
        [
            str(tree),
            write(spread([start.serving for start in found]), 3),
            write(spread([start.subscribed for start in found]), 3),
            write(spread([start.cpu for start in found]), 3),
        ]
        for tree, found in starts.items()
    ]
    head = ["tree", "until its port answers (s)", "until subscribed (s)", "CPU (s)"]
    sys.stdout.write("\n".join([*table(head, rows), ""]))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starts",
        description="Measure a bridge's start: medians (lowest, highest).",
    )
    parser.add_argument(
        "--runs", type=int, default=7, help="starts of each tree (default: 7)"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another working tree, in turns with this one",
    )
    return parser.parse_args(arguments)


def _start(topic: str, settings: dict[str, str], folder: Path) -> _Start | None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BRIDGE_")
    }
    began = time.monotonic()
    serving = 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "--topic", topic],
        stdout=subprocess.PIPE,
        cwd=folder,
        env=environment | settings,
    ) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                event = json.loads(line)["event"]
                if event == "service.started":
                    serving = time.monotonic() - began
                if event == "session.subscribed":
                    subscribed = time.monotonic() - began
                    times = psutil.Process(child.pid).cpu_times()
                    return _Start(serving, subscribed, times.user + times.system)
        finally:
            child.terminate()
            child.communicate(timeout=_STOP_SECONDS)
    return None


if __name__ == "__main__":
    sys.exit(main())
