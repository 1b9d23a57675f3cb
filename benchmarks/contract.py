"""
What the contract costs: from the text of a frame to the record that is offered.

`python -m benchmarks.contract` (or `make bench-contract`) measures it alone, `make
bench` beside everything else. Owns the loads, the steps and their timing. No socket,
no disk and no broker take part: what they cost the other reports tell.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import msgspec

from benchmarks.contract_report import SMALL, Cost, Step, describe_contract
from benchmarks.machine import describe, heading
from benchmarks.traffic import CHANNEL, CLIENT_ID, EVENT, Traffic, message_of
from bridge import job_status
from bridge.intake import Intake
from bridge.job_status import JobStatusRecord
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.record import Record
from bridge.sandbox.previews import paint


__all__ = ["LOADS", "Load", "measure"]

_Work: TypeAlias = Callable[[], None]
_T = TypeVar("_T")

_ROUNDS = 15

# One timing of one step: far above the clock's resolution, and short enough that the
# machine's drift hits all steps of a round alike.
_TIMING_SECONDS = 0.02

# What one read of the socket brings at most; its events are accepted together.
_READ_BYTES = 131_072

# Distinct events of a load: more than one read brings of small ones.
_EVENTS = 512

_NOW_US = 1_790_000_000_000_000


class _Frame(msgspec.Struct, gc=False):
    """What the floor reads of a frame: nothing less would find the payload."""

    event: str
    channel: str
    data: str


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_payload = msgspec.json.Decoder(JobStatusRecord).decode


@dataclass(frozen=True)
class Load:
    """
    Events of one kind.

    Attributes:
        name: What a reader of the report sees.
        messages: Makes the texts of their frames.
        conforms: Whether their payloads go on as they come: what the floor can do.
        previews: The bridge's setting of that name.
    """

    name: str
    messages: Callable[[], list[str]]
    conforms: bool = True
    previews: Literal["inline", "drop", "topic"] = "inline"


def _small() -> list[str]:
    return [message_of(payload) for payload in Traffic(_EVENTS).payloads()]


def _numeric_progress() -> list[str]:
    return [
        message_of(_payload(index, "null", f"{index % 100}.5"))
        for index in range(_EVENTS)
    ]


def _no_string() -> list[str]:
    return [
        message_of(msgspec.json.decode(payload))
        for payload in Traffic(_EVENTS).payloads()
    ]


def _previews(size: int) -> Callable[[], list[str]]:
    def make() -> list[str]:
        pictures = paint(size).previews
        return [
            message_of(_payload(index, f'"{stages[-1]}"', f'"{index}.50"'))
            for index, stages in enumerate(pictures)
        ]

    return make


def _payload(index: int, preview: str, progress: str) -> str:
    return (
        f'{{"request_id":"{Traffic(_EVENTS).request_id(index)}",'
        f'"status":"in_progress","preview":{preview},"result_url":null,'
        f'"progress":{progress}}}'
    )


LOADS = (
    Load(SMALL, _small),
    Load("no preview, progress a number", _numeric_progress, conforms=False),
    Load("no preview, data no string", _no_string, conforms=False),
    Load("preview of 20 KB", _previews(20_000)),
    Load("preview of 20 KB, dropped", _previews(20_000), False, "drop"),
    Load("preview of 20 KB, to its topic", _previews(20_000), False, "topic"),
    Load("preview of 100 KB", _previews(100_000)),
    Load("preview of 100 KB, dropped", _previews(100_000), False, "drop"),
    Load("preview of 100 KB, to its topic", _previews(100_000), False, "topic"),
)


def measure(rounds: int = _ROUNDS, loads: Sequence[Load] = LOADS) -> list[Cost]:
    """
    Time every step of every load, turn by turn.

    Args:
        rounds: How often each.
        loads: What is read.
    """
    timings = [timing for load in loads for timing in _timings(load)]
    for turn in range(rounds):
        # Each goes first once in a while: the machine drifts.
        first = turn * len(timings) // rounds
        for timing in (*timings[first:], *timings[:first]):
            timing.take()
    return [timing.cost() for timing in timings]


class _Timing:
    """
    One step of one load, timed again and again.

    Args:
        load: The load's name.
        step: Which step.
        messages: The frames of one call.
        work: The call.
    """

    def __init__(
        self, load: Load, step: Step, messages: Sequence[str], work: _Work
    ) -> None:
        self._load, self._step, self._work = load.name, step, work
        self._event_bytes = round(statistics.mean(map(len, messages)))
        work()  # fills caches, and lets the interpreter specialise its code
        once = max(_seconds(work, 1), 1e-6)
        self._calls = max(1, round(_TIMING_SECONDS / once))
        self._events = len(messages) * self._calls
        self._us: list[float] = []

    def take(self) -> None:
        """Time it once more."""
        self._us.append(_seconds(self._work, self._calls) * 1e6 / self._events)

    def cost(self) -> Cost:
        """Give what was found."""
        return Cost(self._load, self._step, self._event_bytes, tuple(self._us))


def _seconds(work: _Work, calls: int) -> float:
    """Take the CPU time of this thread: others may run meanwhile."""
    started = time.thread_time_ns()
    for _ in range(calls):
        work()
    return (time.thread_time_ns() - started) / 1e9


def _timings(load: Load) -> Iterator[_Timing]:
    messages = load.messages()
    events = [event for event in map(decode, messages) if type(event) is ChannelEvent]
    intake = Intake(
        ce_source=f"https://api/clients/{CLIENT_ID}",
        topic="jobs",
        dead_letter_topic="jobs.dlq",
        offer=_offer,
        previews=load.previews,
        preview_topic="jobs.previews",
    )
    works: dict[Step, _Work] = {
        Step.FRAME: partial(_frame, messages),
        Step.PAYLOAD: partial(_payloads, events),
        Step.RECORD: partial(_record, intake, list(_runs(events, messages))),
        Step.WHOLE: partial(_whole, intake, list(_runs(messages, messages))),
    }
    if load.conforms:
        works[Step.FLOOR] = partial(_floor, messages)
    for step, work in works.items():
        yield _Timing(load, step, messages, work)


def _floor(messages: Sequence[str]) -> None:
    for text in messages:
        _decode_payload(_decode_frame(text).data)


def _frame(messages: Sequence[str]) -> None:
    for text in messages:
        decode(text)


def _payloads(events: Sequence[ChannelEvent]) -> None:
    for event in events:
        job_status.parse(event.data)


def _record(intake: Intake, runs: Sequence[Sequence[ChannelEvent]]) -> None:
    for run in runs:
        intake.accept(run, _NOW_US)


def _whole(intake: Intake, runs: Sequence[Sequence[str]]) -> None:
    for run in runs:
        # As `pusher.attempt` reads a run.
        jobs = []
        for text in run:
            event = decode(text)
            if type(event) is ChannelEvent and (
                event.event == EVENT and event.channel == CHANNEL
            ):
                jobs.append(event)
        intake.accept(jobs, _NOW_US)


def _runs(items: Sequence[_T], messages: Sequence[str]) -> Iterator[list[_T]]:
    """Deal out what belongs to messages as reads of the socket bring them."""
    run: list[_T] = []
    size = 0
    for item, message in zip(items, messages, strict=True):
        if run and size + len(message) > _READ_BYTES:
            yield run
            run, size = [], 0
        run.append(item)
        size += len(message)
    yield run


def _offer(records: list[Record]) -> None:
    """Let records go: what becomes of them is measured elsewhere."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0, whatever the speed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contract",
        description="Measure what an event costs between a frame's text and a record.",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=_ROUNDS,
        help="how often each step is timed (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("there is at least one round")
    lines = [
        heading("What the contract costs", describe(own_kafka=None)),
        "",
        *describe_contract(measure(options.rounds)),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
