"""The load of `make soak`: what counts as emitted, and what doesn't."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random

import httpx  # noqa: TID251 - what the publisher raises
import pytest
import trio
from trio.testing import MockClock

from tests.chaos.ground import GroundLoad
from tests.kit.publisher import Event, Publisher, SoketiError


_REQUEST = httpx.Request("POST", "http://soketi")


class _Scripted(Publisher):
    """Takes batches, or fails as it is told."""

    def __init__(self, fail: Callable[[int], Exception | None]) -> None:
        self._fail = fail
        self.batches: list[list[dict[str, object]]] = []

    async def publish_batch(self, events: Sequence[Event]) -> None:
        self.batches.append([json.loads(event.data) for event in events])
        error = self._fail(len(self.batches))
        if error is not None:
            raise error


async def _loaded(publisher: _Scripted, batches: int) -> GroundLoad:
    load = GroundLoad(publisher, "private-client.me", 100.0, Random(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        # A batch of ten each tenth of a second.
        await trio.sleep(0.1 * batches - 0.05)
        await load.stop()
    return load


async def test_events_have_rising_numbers_and_jobs_have_a_course(
    autojump_clock: MockClock,
) -> None:
    """No number comes twice; a job begins with `processing`, and `done` is its last."""
    publisher = _Scripted(lambda _: None)
    load = await _loaded(publisher, 200)
    values = [value for batch in publisher.batches for value in batch]
    assert [value["number"] for value in values] == list(range(2000))
    assert [each.number for each in load.ground.emitted] == list(range(2000))
    courses = defaultdict(list)
    for value in values:
        courses[value["request_id"]].append(value["status"])
    over = [course for course in courses.values() if course[-1] == "done"]
    assert len(over) > 50
    assert all(course[0] == "processing" for course in courses.values())
    assert all("done" not in course[:-1] for course in courses.values())


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused", request=_REQUEST), SoketiError(503, None, "")],
)
async def test_what_soketi_did_not_take_was_not_emitted(
    autojump_clock: MockClock, error: Exception
) -> None:
    """Nobody there, or a refusal: those events are in no account, and it goes on."""
    publisher = _Scripted(lambda batch: error if batch == 2 else None)
    ground = (await _loaded(publisher, 3)).ground
    assert (ground.refused, ground.unsure) == (10, [])
    assert [each.number for each in ground.emitted] == [*range(10), *range(20, 30)]


async def test_a_broken_request_leaves_events_unsure_and_ends_their_jobs(
    autojump_clock: MockClock,
) -> None:
    """Soketi may take it behind later requests: its jobs have no later events."""
    broken = httpx.ReadTimeout("late", request=_REQUEST)
    publisher = _Scripted(lambda batch: broken if batch == 2 else None)
    ground = (await _loaded(publisher, 3)).ground
    assert [each.number for each in ground.unsure] == list(range(10, 20))
    before = {each.key for each in ground.unsure}
    after = {each.key for each in ground.emitted if each.number >= 20}
    assert not before & after
    assert all(value["status"] == "processing" for value in publisher.batches[2])
