"""What is reported of gaps and jobs in the end, against what dryAPI would have said.

State: jobs with fates of their own: the endpoint knows some, the socket or a webhook
brings others, nothing the rest. Gaps close, and endpoint and outbox fail, at any time.

Invariant, five minutes after the last event: each end is written once; each gap is
resolved with the number of its unknown jobs; nothing is left waiting.

An order of 15 steps takes 10 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.gaps.limiter import Purpose
from bridge.gaps.status import Answer
from tests.gaps.world import (
    FAILED,
    LIMITED,
    NOT_FOUND,
    World,
    answered,
    source,
)
from tests.models.exploring import explored


Fate = Literal["done", "error", "processing", "pending", "gone"]

ANSWERS: dict[Fate, Answer] = {
    "done": answered("done"),
    "error": answered("error"),
    "processing": answered("processing"),
    "pending": answered("pending"),
    "gone": NOT_FOUND,
}

WHO = ("42", "43")


@dataclass(frozen=True)
class Step:
    """Something that happens."""

    after: float
    what: Literal["gap", "seen", "ends", "fails", "limits", "works", "full"]
    who: int
    job: int


_STEPS = st.builds(
    Step,
    st.sampled_from([0.0, 0.05, 0.1, 1.0, 7.0, 59.9, 60.0, 300.0]),
    st.sampled_from(["gap", "gap", "seen", "ends", "fails", "limits", "works", "full"]),
    st.integers(0, 1),
    st.integers(0, 5),
)


class Life:
    """A world in which these steps happen."""

    def __init__(self, fates: list[Fate], every_seconds: float) -> None:
        # A dropped job would be unknown, whatever its resolution.
        self.world = World(WHO, give_up_seconds=1e9)
        self.world.pace.every_seconds = every_seconds
        self.fates = {f"job-{number}": fate for number, fate in enumerate(fates)}
        self.world.dryapi.answers = {
            name: ANSWERS[fate] for name, fate in self.fates.items()
        }
        for who in WHO:
            self.world.run_jobs(self.fates, who)
        # Jobs that ended otherwise than by an answer.
        self.ended: set[tuple[str, str]] = set()
        # By gap, all that were in flight.
        self.concerned: dict[str, set[tuple[str, str]]] = {}

    async def live(self, steps: list[Step]) -> None:
        """Do the steps, and wait until all is settled."""
        world = self.world
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.reconciler.run)
            for step in steps:
                await trio.sleep(step.after)
                self.do(step)
            self.do(Step(0, "works", 0, 0))
            # A try after the longest wait, every job, and two looks.
            await trio.sleep(333.3)
            nursery.cancel_scope.cancel()

    def do(self, step: Step) -> None:
        """Do one."""
        world, who = self.world, WHO[step.who]
        name = f"job-{step.job % len(self.fates)}"
        job = world.outbox.find(source(who), name)
        if step.what == "gap":
            gap_id = world.close_gap(who)
            self.concerned[gap_id] = {
                (who, known.request_id) for known in world.outbox.of(source(who))
            }
        elif step.what in {"fails", "limits", "works"}:
            broken = {"fails": FAILED, "limits": LIMITED}.get(step.what)
            world.dryapi.answers = {
                job: broken or ANSWERS[fate] for job, fate in self.fates.items()
            }
            if step.what == "works":
                world.outbox.open()
        elif step.what == "full":
            world.outbox.is_open = False
        elif job is not None:
            if step.what == "seen":
                world.outbox.hear(who, name)
            else:
                world.outbox.hear(who, name, "done")
                self.ended.add((who, name))


@explored(1 / 4)
@given(
    st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=6),
    st.lists(_STEPS, max_size=15),
    st.sampled_from([0.0, 0.5, 5.0]),
)
def test_what_is_told_is_so(
    fates: list[Fate], steps: list[Step], every_seconds: float
) -> None:
    """Each gap is resolved, with the number of its unknown jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", _at_once)
        life = trio.run(_main, fates, steps, every_seconds, clock=_clock())
    world = life.world
    ends = Counter(
        (record.envelope.ce_source[-2:], (record.key or b"").decode())
        for record in world.outbox.records
    )
    assert set(ends.values()) <= {1}
    assert not ends.keys() & life.ended
    assert {record.status for record in world.outbox.records} <= {"done", "error"}
    ending = {name for name, fate in life.fates.items() if fate in {"done", "error"}}
    gone = {name for name, fate in life.fates.items() if fate == "gone"}
    for gap_id, jobs in life.concerned.items():
        until_us = world.gaps[gap_id].until_us or 0
        silent = {
            (who, name)
            for who, name in jobs - life.ended - ends.keys()
            if _last_seen(world, who, name) < until_us
        }
        # An end that dryAPI reports is written, unless the job was seen since.
        assert not {name for _, name in silent} & ending
        assert world.gaps[gap_id].unknown == sum(name in gone for _, name in silent)
    statistics = world.statistics
    assert all(statistics.waiting[who, Purpose.GAP] == 0 for who in WHO)
    assert sum(statistics.healed.values()) == len(ends)
    assert world.pace.in_flight == 0


def _last_seen(world: World, who: str, name: str) -> int:
    job = world.outbox.find(source(who), name)
    assert job is not None
    return job.last_seen_us


def _clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def _at_once(work: Callable[..., Any], *args: object) -> Any:
    await trio.lowlevel.checkpoint()
    return work(*args)


async def _main(fates: list[Fate], steps: list[Step], every_seconds: float) -> Life:
    life = Life(fates, every_seconds)
    await life.live(steps)
    return life
