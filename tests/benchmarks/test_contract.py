"""What an event costs: one decode of its frame, one of its payload, none written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec
import pytest

from benchmarks.contract import LOADS, measure
from benchmarks.contract_report import SMALL, Cost, Step, describe_contract
from benchmarks.traffic import message_of
from bridge.intake import Intake
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.record import Record


_ID = "123e4567-e89b-12d3-a456-426614174000"

# Everything that reads or writes JSON here.
_CODECS = (msgspec.json.Decoder, msgspec.json.Encoder)
_FUNCTIONS = {
    msgspec.json.decode,
    msgspec.json.encode,
    json.loads,
    json.dumps,
}
_MODULES = {"json.decoder", "json.encoder", "_json"}


@contextmanager
def _counting() -> Iterator[list[str]]:
    """List each reading and each writing of JSON inside, whoever asks for it."""
    seen: list[str] = []

    def look(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and (
            isinstance(getattr(function, "__self__", None), _CODECS)
            or function in _FUNCTIONS
        ):
            seen.append(function.__name__)
        elif event == "call" and frame.f_globals.get("__name__") in _MODULES:
            seen.append(f"json: {frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def _bridge(text: str) -> tuple[list[str], Record]:
    """Take a frame's text all the way; give what was decoded, and the record."""
    offered: list[Record] = []
    intake = Intake(
        ce_source="https://api/clients/1",
        topic="jobs",
        dead_letter_topic="jobs.dlq",
        offer=offered.extend,
    )
    with _counting() as seen:
        event = decode(text)
        assert type(event) is ChannelEvent
        intake.accept([event], 1)
    (record,) = offered
    return seen, record


def _payload(preview: str | None, progress: object = "45.50") -> str:
    # Members in another order, blanks and needless escapes: as nobody here writes it.
    text = json.dumps(
        {
            "progress": progress,
            "status": "in_progress",
            "request_id": _ID,
            "preview": preview,
            "result_url": None,
        },
        indent=1,
    )
    return text.replace("/", r"\/")


@pytest.mark.parametrize("length", [None, 30, 20_000, 100_000])
def test_a_conforming_event_is_decoded_once_and_never_written(
    length: int | None,
) -> None:
    """Frame and payload are read once; the payload's bytes are the record's value."""
    preview = None if length is None else "data:image/jpeg;base64," + "/9j4" * length
    payload = _payload(preview)

    seen, record = _bridge(message_of(payload))

    assert seen == ["decode", "decode"]
    assert record.value == payload.encode()
    assert record.extra == ()


@pytest.mark.parametrize(
    "frame",
    [
        message_of(_payload(None, progress=45.5)),
        message_of(json.loads(_payload(None))),
    ],
    ids=["progress a number", "data no string"],
)
def test_what_is_changed_is_seen_to_cost_more(frame: str) -> None:
    """An event that doesn't conform is decoded again and written: the count sees it."""
    seen, record = _bridge(frame)

    assert len(seen) > 2
    assert any("encode" in name for name in seen)
    assert record.extra


def test_every_step_of_every_load_is_timed_in_each_round() -> None:
    """The floor alone is left out where it can't read the events."""
    loads = [
        load for load in LOADS if load.name in {SMALL, "no preview, data no string"}
    ]

    costs = measure(2, loads)

    steps = {load.name: set(Step) for load in loads}
    steps["no preview, data no string"].remove(Step.FLOOR)
    found = {name: {cost.step for cost in costs if cost.load == name} for name in steps}
    assert found == steps
    assert all(len(cost.us) == 2 and min(cost.us) > 0 for cost in costs)
    by_step = {cost.step: cost for cost in costs if cost.load == SMALL}
    assert by_step[Step.WHOLE].spread.lowest > by_step[Step.FRAME].spread.lowest


@pytest.mark.parametrize(
    ("us", "verdict"),
    [((2.0, 2.9, 9.0), "2.90, met"), ((2.0, 3.1, 3.2), "3.10, missed")],
)
def test_the_median_is_held_against_the_target(
    us: tuple[float, ...], verdict: str
) -> None:
    """One round that went astray decides nothing."""
    costs = [
        Cost(SMALL, Step.FLOOR, 200, (0.5, 1.0, 1.5)),
        *(Cost(SMALL, step, 200, us) for step in Step if step is not Step.FLOOR),
    ]

    text = "\n".join(describe_contract(costs))

    assert f"at most 3 us: {verdict}" in text
    assert "3 interleaved rounds" in text
