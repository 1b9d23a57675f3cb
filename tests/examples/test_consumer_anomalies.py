"""The Python example takes marked records for what they are."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Topic
from tests.examples.database import command, rows
from tests.examples.jobs import status, whole_job
from tests.examples.program import caught_up, running
from tests.examples.records import records_of, write_aborted, write_again
from tests.examples.rooms import Publish


async def test_counts_an_event_once_and_no_aborted_one(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """The same event at two offsets counts once; one of an aborted transaction never.

    So does an event that only repeats what the one before it said.
    """
    await publish(whole_job("job-1")[:2])
    first, second = await records_of(topic, 2)
    write_again(topic, first, bridge_anomaly=b"resent")
    write_again(topic, second, bridge_anomaly=b"resent")
    write_aborted(topic, second, ce_id=b"never-1")
    await publish([status("job-1", "in_progress", "45.50")])
    await publish([status("job-1", "done", "100.00")])

    async with running(command(topic, "first"), tmp_path) as program:
        await program.lines(1)
        await program.end()

    assert rows(tmp_path) == [("job-1", "done", "100.00", 3)]


async def test_passes_over_a_step_back(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Progress that falls isn't taken into the row, and what follows it is."""
    await publish([status("job-1", "in_progress", "80.00")])
    await publish([status("job-1", "in_progress", "20.00")])
    async with running(command(topic, "first"), tmp_path) as program:
        await caught_up(topic, "first")
        before = rows(tmp_path)
        await publish([status("job-1", "in_progress", "90.00")])
        await caught_up(topic, "first")
        await program.end()

    assert before == [("job-1", "in_progress", "80.00", 2)]
    assert rows(tmp_path) == [("job-1", "in_progress", "90.00", 3)]


async def test_takes_what_was_replayed_only_where_it_is_newer(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """A replayed event that is older than the job's row leaves it as it is."""
    await publish([status("job-1", "in_progress", "10.00")])
    await publish([status("job-1", "in_progress", "30.00")])
    older, _ = await records_of(topic, 2)
    replayed = {"bridge_origin": b"replay", "bridge_anomaly": b"replayed"}
    write_again(topic, older, ce_id=b"replay-1", **replayed)

    async with running(command(topic, "first"), tmp_path) as program:
        await caught_up(topic, "first")
        before = rows(tmp_path)
        later = b"2999-01-01T00:00:00.000000Z"
        write_again(topic, older, ce_id=b"replay-2", ce_time=later, **replayed)
        await caught_up(topic, "first")
        await program.end()

    assert before == [("job-1", "in_progress", "30.00", 3)]
    assert rows(tmp_path) == [("job-1", "in_progress", "10.00", 4)]
