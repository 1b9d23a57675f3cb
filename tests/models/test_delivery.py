"""The relay against a model broker: no fault loses an event, repeats or moves it.

State: the outbox's own tables, the relay's own code in both delivery modes, on a loop
whose clock jumps; a broker of logs in memory, whose batches and commits fail, land late
or lose their answers; processes that die, copies of the outbox that are put back, logs
that are cut, trimmed and recreated.

Invariant, once everything works again: each event that was committed is in its log, or
is a dead letter if the broker refuses it; of a key in order; once, but for a late write
of an abandoned producer (idempotent) or a record marked `resent`, which there is only
where something was lost; no `ce_id` names two events.

An order of 30 rules takes 40 ms. Cases beside the model need
moments that chance seldom meets.
"""

from __future__ import annotations

import pytest

from tests.models.delivery_machine import DEAD, JOBS, Mode, machine_for
from tests.models.exploring import explore
from tests.models.model_log import CommitFault, Fault


@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_a_row_of_a_copy_is_found_after_a_crash_too(mode: Mode) -> None:
    """It has the sequence that it has in the log, where each process looks for it."""
    machine = machine_for(mode)()
    machine.time_passes(seconds=0.05)
    machine.crash()
    machine.offer(keys=[0])
    machine.copy()
    machine.time_passes(seconds=0.05)
    machine.put_copy_back()
    machine.time_passes(seconds=0.05)
    machine.crash()
    machine.teardown()


def test_a_late_row_of_a_former_process_says_nothing_of_one_that_is_refused() -> None:
    """It lands while its lane resumes, and behind a head that was deleted."""
    for milliseconds in (524, 532, 540):
        machine = machine_for("idempotent")()
        machine.time_passes(seconds=0.05)
        machine.offer_poison(key=1)
        machine.others_write(where=(JOBS, 0))
        machine.trim(where=(JOBS, 0), count=1)
        machine.offer(keys=[1], then=0.002)
        machine.copy()
        while not any(state.last_sequence for state in machine.outbox.states(DEAD)):
            machine.time_passes(seconds=0.0005)
        machine.fail(where=(JOBS, 0), fault=Fault.LATE)
        machine.time_passes(seconds=0.02)
        machine.put_copy_back()
        machine.time_passes(seconds=milliseconds / 1000)
        machine.land()
        machine.teardown()


@pytest.mark.parametrize("after_seconds", [0.008, 0.02])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_a_process_that_dies_before_it_has_looked_at_a_log_that_was_cut_loses_nothing(
    mode: Mode, count: int, after_seconds: float
) -> None:
    """What a log acknowledged that may not be the one of before isn't built upon."""
    machine = machine_for(mode)()
    machine.time_passes(seconds=0.05)
    for _ in range(3):
        machine.offer(keys=[1])
        machine.time_passes(seconds=0.05)
    machine.cut(where=(JOBS, 0), count=count)
    machine.offer(keys=[1])
    machine.time_passes(seconds=after_seconds)
    machine.write_down()
    machine.crash()
    machine.teardown()


@pytest.mark.parametrize("dies", [False, True])
def test_a_late_commit_is_refused_before_the_log_is_read(*, dies: bool) -> None:
    """Whenever it lands after a failure or a crash, its rows are there once."""
    for milliseconds in range(1, 60, 2):
        machine = machine_for("transactional")()
        machine.time_passes(seconds=0.05)
        machine.lose_commit(CommitFault.LATE)
        machine.offer(keys=[1])
        machine.time_passes(seconds=0.01)
        if dies:
            machine.crash()
        machine.time_passes(seconds=milliseconds / 1000)
        machine.land()
        machine.teardown()


@pytest.mark.parametrize("mode", ["idempotent", "transactional"])
def test_whatever_happens_each_event_arrives_in_order(mode: Mode) -> None:
    """No order of faults loses an event, doubles one without a mark or turns two."""
    explore(machine_for(mode), share=1 / 2, steps=30)
