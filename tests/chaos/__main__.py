"""The command line of `make chaos`, `make soak` and their like: options, exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import trio

from benchmarks.program import seconds
from tests.chaos.course import Course, Options, Say, Servers
from tests.chaos.faults import NODES, Fault, drawn_by
from tests.chaos.runs import brokers, healing, kills, restarts, soak
from tests.chaos.verdict import Verdict
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


_FAULTS = {fault.name: fault for fault in drawn_by("brokers")}
_ALL = ",".join(_FAULTS)

# More lines of a verdict would not be read.
_MOST_LINES = 20

# Events a second, and previews: their share and the largest. The slow rate lets a
# suspended bridge get behind, and an hour's topic be read in a minute.
_FAST = 300.0, (0.06, 30_000)
_SLOW = 100.0, (0.03, 20_000)
_JOBS = 0.0, (0.0, 0)

_COMMITTED = "every committed event is on the topic, in order"
_EMITTED = "every emitted event is on the topic or in a gap, and no gap is false"
_ENDED = "every job that could be known has its one end, in time and in order"

_Run: TypeAlias = Callable[
    [Any, Servers, Options, Say], Coroutine[Any, Any, tuple[Course, Verdict]]
]

# Each one's meaning, load, good end, and what it does.
_COMMANDS: Mapping[str, tuple[str, tuple[float, tuple[float, int]], str, _Run]] = {
    "kills": ("kill the bridge again and again", _FAST, _COMMITTED, kills),
    "brokers": ("let brokers fail, and measure", _FAST, _COMMITTED, brokers),
    "soak": ("let everything fail, for a time", _SLOW, _EMITTED, soak),
    "restarts": ("restart soketi again and again", _SLOW, _EMITTED, restarts),
    "healing": ("let jobs end in gaps, and demand their ends", _JOBS, _ENDED, healing),
}

_REPORTS = Path("build", "chaos")

# Seeds that a person can type.
_SEEDS = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for and report the outcome."""
    asked = _parser().parse_args(arguments)
    _, (_, previews), good, _ = _COMMANDS[asked.command]
    options = Options(asked.seed, asked.delivery, asked.rate, previews)
    rate = f", {options.rate:g} events/s" if options.rate else ""
    _say(f"seed {options.seed}, {options.delivery}{rate}")
    # The sandbox logs each try of a webhook that finds no bridge.
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    with tempfile.TemporaryDirectory(prefix="bridge-chaos-") as folder:
        findings = _run(asked, options, Path(folder))
    for line in findings[:_MOST_LINES]:
        _say(f"FINDING: {line}")
    if len(findings) > _MOST_LINES:
        _say(f"... and {len(findings) - _MOST_LINES:,} more")
    if findings:
        _say(f"FAILED: {len(findings):,} findings, seed {options.seed}")
        return 1
    _say(f"good: {good}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Let things fail around the bridge, and judge what is in Kafka.",
    )
    commands = parser.add_subparsers(required=True, dest="command")
    of_command: dict[str, tuple[str, dict[str, Any]]] = {
        "kills": ("--kills", {"type": int, "default": 50, "dest": "amount"}),
        "restarts": ("--times", {"type": int, "default": 50, "dest": "amount"}),
        "soak": ("--for", {"type": seconds, "default": "10m", "dest": "amount"}),
        "healing": ("--for", {"type": seconds, "default": "5m", "dest": "amount"}),
        "brokers": (
            "--only",
            {"type": _faults, "default": _ALL, "dest": "amount"},
        ),
    }
    for name, (meaning, (rate, _), _, _) in _COMMANDS.items():
        command = commands.add_parser(name, help=meaning)
        seed, modes = secrets.randbelow(_SEEDS), ("idempotent", "transactional")
        command.add_argument("--seed", type=int, default=seed)
        command.add_argument("--delivery", choices=modes, default=modes[0])
        if rate:
            command.add_argument("--rate", type=float, help="events a second")
        command.set_defaults(rate=rate)
        option, arguments = of_command[name]
        command.add_argument(option, **arguments)
    return parser


def _faults(text: str) -> list[Fault]:
    if set(names := text.split(",")) <= _FAULTS.keys():
        return [_FAULTS[name] for name in names]
    raise argparse.ArgumentTypeError(f"{text!r} is not of {_ALL}")


def _run(asked: argparse.Namespace, options: Options, folder: Path) -> list[str]:
    """Run a command, once for each fault of brokers; give what was found."""
    _, _, _, run = _COMMANDS[asked.command]
    is_brokers, findings = asked.command == "brokers", []
    amounts = asked.amount if is_brokers else [asked.amount]
    nodes = NODES if is_brokers else 1
    with KafkaServer(nodes) as kafka, SoketiServer() as soketi:
        servers = Servers(kafka, soketi, folder)
        for amount in amounts:
            course, verdict = trio.run(run, amount, servers, options, _say)
            for line in _lines(verdict):
                _say(line)
            written = _write(course, verdict, _REPORTS)
            _say(f"report: {written}, the bridge's log beside it")
            findings += verdict.findings
    return findings


def _lines(verdict: Verdict) -> Iterator[str]:
    """Give the figures, a line each."""
    for name, value in verdict.figures.items():
        if isinstance(value, Counter):
            each = ", ".join(f"{count:,} {what}" for what, count in value.most_common())
            yield f"{name:<36}{value.total():>9,}  ({each})"
        else:
            yield f"{name:<36}{f'{value:>9,}' if isinstance(value, int) else value}"


def _write(course: Course, verdict: Verdict, folder: Path) -> Path:
    """Write the report and the bridge's log beside it; give the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{course.topic}-{course.options.seed}.json"
    content = {
        "options": asdict(course.options),
        "accounts": [asdict(member) for member in course.members],
        "findings": verdict.findings,
        "figures": verdict.figures,
        "repeats": verdict.repeats,
        "gaps": [
            # JSON has no infinity.
            asdict(gap) | {"since": None if gap.since < 0 else gap.since}
            for gap in verdict.gaps
        ],
        "faults": [vars(fault) for fault in course.faults],
        "calls": {
            name: [asdict(call) for call in account.truth.calls]
            for name, account in course.dryapi.accounts.items()
        },
        "samples": [asdict(sample) for sample in course.watch.samples],
    }
    report.write_text(json.dumps(content, indent=1, default=sorted))
    report.with_suffix(".log").write_text(course.bridge.all_output)
    return report


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    # A pipe would show it at the end only.
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
