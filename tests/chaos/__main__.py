"""The command line of `make chaos`, `make soak` and their like: options, exit codes."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import structlog
import trio
from rich.console import Console

from tests.chaos import healing_report, soak_report
from tests.chaos.course import measure, table
from tests.chaos.drain import DRAIN, drain
from tests.chaos.faults import FAULTS, NODES
from tests.chaos.healing import healing
from tests.chaos.healing_stage import HealingPlace
from tests.chaos.kills import Killer
from tests.chaos.restarts import growth, restarts
from tests.chaos.soak import Outcome, Place, soak
from tests.chaos.stage import Options, Servers, Stage
from tests.chaos.vitals import lives
from tests.e2e.auth_endpoint import AuthEndpoint, signing
from tests.kit.broker import BrokerError
from tests.kit.downloads import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.reader import ReadTimeoutError
from tests.kit.soketi import SoketiServer


_NAMES = [*(fault.name for fault in FAULTS), DRAIN]

_EXPECTED = (BrokerError, FetchError, PortTakenError, ProcessError, ReadTimeoutError)

# A verdict with more lines is read by nobody.
_MOST_LINES = 20

# Wide enough for a line a fault; narrower terminals wrap it.
_TABLE_WIDTH = 200

# Slow enough that a suspended bridge gets behind, and that an hour's topic is read
# in a minute; soketi delivers it to a witness, which each run shows.
_SLOW_RATE = 100.0

# The relay keeps up to 32 MiB of rows in memory, and Python's objects take half as
# much again.
_OUTAGE_BYTES = 64 * 2**20

_REPORTS = Path("build", "chaos")

# Seeds that a person can type.
_SEEDS = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Do what was asked for and tell the outcome.

    Returns:
        0 if nothing was found, 1 if something was or a part of the run failed, 2
        for wrong options.
    """
    asked = _options(arguments)
    options = Options(asked.seed, asked.delivery, asked.rate)
    rate = f", {options.rate:g} events/s" if options.rate else ""
    _say(f"seed {options.seed}, {options.delivery}{rate}")
    try:
        with tempfile.TemporaryDirectory(prefix="bridge-chaos-") as folder:
            return int(asked.work(asked, options, Path(folder)))
    except BaseExceptionGroup as group:
        expected, defects = group.split(_EXPECTED)
        if defects is not None or expected is None:
            raise
        error = _first(expected)
    except _EXPECTED as single:
        error = single
    _say(f"FAILED with seed {options.seed}: {error}")
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Let things die around the bridge, and judge what is in Kafka.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--seed", type=int, default=secrets.randbelow(_SEEDS), help="default: random"
    )
    common.add_argument(
        "--delivery", choices=("idempotent", "transactional"), default="idempotent"
    )
    fast, slow = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    for rated, rate in ((fast, 300.0), (slow, _SLOW_RATE)):
        rated.add_argument(
            "--rate",
            type=float,
            default=rate,
            help=f"events a second (default: {rate:g})",
        )
    commands = parser.add_subparsers(required=True)
    kills = commands.add_parser(
        "kills", parents=[common, fast], help="kill the bridge again and again"
    )
    kills.add_argument("--kills", type=int, default=50, help="how often (default: 50)")
    kills.set_defaults(work=_kill)
    brokers = commands.add_parser(
        "brokers", parents=[common, fast], help="let brokers fail, and measure"
    )
    brokers.add_argument(
        "--only",
        type=_names,
        default=_NAMES,
        metavar="NAME,...",
        help=f"of {', '.join(_NAMES)} (default: all)",
    )
    brokers.set_defaults(work=_fail_brokers)
    soaked = commands.add_parser(
        "soak", parents=[common, slow], help="let everything fail, for a time"
    )
    soaked.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=_seconds("10m"),
        metavar="TIME",
        help="90s, 10m, 1h (default: 10m)",
    )
    soaked.set_defaults(work=_soak)
    restarted = commands.add_parser(
        "restarts", parents=[common, slow], help="restart soketi again and again"
    )
    restarted.add_argument(
        "--times", type=int, default=50, help="how often (default: 50)"
    )
    restarted.set_defaults(work=_restart)
    healed = commands.add_parser(
        "healing", parents=[common], help="let jobs end in gaps, and demand their ends"
    )
    healed.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=_seconds("5m"),
        metavar="TIME",
        help="90s, 10m, 1h (default: 5m)",
    )
    healed.set_defaults(work=_heal, rate=0.0)
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    number = text[:-1] if unit else text
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 1h")
    return float(number) * (unit or 1)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if set(names) <= set(_NAMES):
        return names
    raise argparse.ArgumentTypeError(f"{text!r} is not of {', '.join(_NAMES)}")


# -- Killing the bridge ---------------------------------------------------


def _kill(asked: argparse.Namespace, options: Options, folder: Path) -> int:
    with _servers(1) as servers:
        stage = Stage("chaos", folder, servers, options)
        killer = Killer(stage, Random(options.seed), folder, _say)
        try:
            verdict = trio.run(killer.run, asked.kills)
        finally:
            stage.bridge.kill()
    _say(
        f"{len(killer.committed):,} events were committed over {asked.kills} kills,"
        f" {verdict.records:,} records are on the topic"
    )
    # A late write may be one; here Kafka has always had time to take it first.
    return _tell([*verdict.findings, *verdict.repeats], options)


# -- Faults of brokers ----------------------------------------------------


def _fail_brokers(asked: argparse.Namespace, options: Options, folder: Path) -> int:
    measured = []
    faults = [fault for fault in FAULTS if fault.name in asked.only]
    findings = []
    if faults:
        with _servers(NODES) as servers:
            for fault in faults:
                _say(f"{fault.name}: {fault.meaning} ...")
                measured.append(trio.run(measure, fault, servers, options, folder))
                findings += [f"{fault.name}: {line}" for line in measured[-1].findings]
                for what, count in measured[-1].said.items():
                    _say(f"    logged {count:>3} x {what}")
                for line in measured[-1].verdict.repeats[:_MOST_LINES]:
                    _say(f"repeat: {line}")
    if DRAIN in asked.only:
        drained = trio.run(drain, options, folder, _say)
        _say(str(drained))
        findings += [f"{DRAIN}: {line}" for line in drained.findings]
    if measured:
        Console(width=_TABLE_WIDTH).print(table(measured))
        repeats = sum(len(each.verdict.repeats) for each in measured)
        _say(f"{repeats:,} records stand there once more, with the same ce_id")
    return _tell(findings, options)


# -- Faults of everything -------------------------------------------------


def _soak(asked: argparse.Namespace, options: Options, folder: Path) -> int:
    with _place(folder) as place:
        outcome = trio.run(soak, asked.seconds, place, options, _say)
    for life in lives(outcome.looks):
        # It may end in the middle of an outage, with rows and sockets for it.
        outcome.verdict.findings += growth(life, few=20, flat_bytes=_OUTAGE_BYTES)
    return _tell_outcome(outcome, options, "soak")


def _restart(asked: argparse.Namespace, options: Options, folder: Path) -> int:
    with _place(folder) as place:
        outcome = trio.run(restarts, asked.times, place, options, _say)
    return _tell_outcome(outcome, options, "restarts")


def _tell_outcome(outcome: Outcome, options: Options, name: str) -> int:
    for line in soak_report.lines(outcome):
        _say(line)
    report = soak_report.write(outcome, options, _REPORTS, name)
    _say(f"report: {report}, the bridge's log beside it")
    good = "good: every emitted event is on the topic or in a gap, and no gap is false"
    return _tell(outcome.verdict.findings, options, good)


# -- Healing --------------------------------------------------------------


def _heal(asked: argparse.Namespace, options: Options, folder: Path) -> int:
    # The sandbox logs each try of a webhook that finds no bridge.
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    with KafkaServer() as kafka, SoketiServer() as soketi:
        place = HealingPlace(kafka, soketi, "healing", folder)
        place.create_topics()
        outcome = trio.run(
            healing, asked.seconds, place, options.seed, options.delivery, _say
        )
    for line in healing_report.lines(outcome):
        _say(line)
    report = healing_report.write(outcome, options.seed, _REPORTS)
    _say(f"report: {report}, the bridge's log beside it")
    good = "good: every job that could be known has its one end, in time and in order"
    return _tell(outcome.verdict.findings, options, good)


# -- Words ----------------------------------------------------------------


def _tell(
    findings: Sequence[str],
    options: Options,
    good: str = "good: every committed event is on the topic, in order",
) -> int:
    """Tell what was found; gives the exit code."""
    for line in findings[:_MOST_LINES]:
        _say(f"FINDING: {line}")
    if len(findings) > _MOST_LINES:
        _say(f"... and {len(findings) - _MOST_LINES:,} more")
    if findings:
        _say(f"FAILED: {len(findings):,} findings, seed {options.seed}")
        return 1
    _say(good)
    return 0


@contextmanager
def _servers(nodes: int) -> Iterator[Servers]:
    with (
        KafkaServer(nodes) as kafka,
        SoketiServer() as soketi,
        AuthEndpoint(signing(soketi)).serving() as endpoint,
    ):
        yield Servers(kafka, soketi, endpoint.url)


@contextmanager
def _place(folder: Path) -> Iterator[Place]:
    with (
        KafkaServer() as kafka,
        SoketiServer() as soketi,
        AuthEndpoint(signing(soketi)).serving() as endpoint,
    ):
        yield Place(kafka, soketi, endpoint, folder)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    # A pipe would show it at the end only.
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
