"""The Python example keeps its promises against records that the bridge wrote."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.conftest import Topic
from tests.examples.program import caught_up, command, rows, running
from tests.examples.records import (
    records_of,
    status,
    whole_job,
    write_aborted,
    write_again,
)
from tests.examples.rooms import Publish


async def test_keeps_a_row_and_says_once_that_a_job_finished(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Each job has one row with its last state, and each finished job one line."""
    jobs = [whole_job(f"job-{number}") for number in range(4)]
    await publish([one for job in jobs for one in job])
    await publish([status("job-9", "in_progress", "12.25")])

    async with running(command(topic, "first"), tmp_path) as program:
        lines = await program.lines(4)
        await caught_up(topic, "first")
        code, rest = await program.end()

    assert sorted(lines) == [
        f"job-{number} done https://storage.example/job-{number}.png"
        for number in range(4)
    ]
    assert (code, rest) == (0, "")
    finished = [(f"job-{number}", "done", "100.00", 3) for number in range(4)]
    assert rows(tmp_path) == [*finished, ("job-9", "in_progress", "12.25", 1)]


async def test_goes_on_where_it_was_after_ctrl_c(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Ctrl-C ends it with 0; the next one handles what came meanwhile, and no more."""
    await publish(whole_job("job-1"))
    async with running(command(topic, "first"), tmp_path) as program:
        await program.lines(1)
        await caught_up(topic, "first")
        code, _ = await program.end(signal.SIGINT)
        assert code == 0
        assert "Traceback" not in program.errors
    (tmp_path / "jobs.sqlite3").unlink()
    await publish(whole_job("job-2"))

    async with running(command(topic, "first"), tmp_path) as program:
        (line,) = await program.lines(1)
        await caught_up(topic, "first")
        await program.end()

    assert line.startswith("job-2 done")
    assert rows(tmp_path) == [("job-2", "done", "100.00", 3)]


async def test_counts_an_event_once_and_no_aborted_one(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """The same event at two offsets counts once."""
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


async def test_takes_no_step_back(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Neither progress that falls nor an older event that was replayed is taken."""
    for progress in ("10.00", "80.00", "20.00"):
        await publish([status("job-1", "in_progress", progress)])
    older, *_ = await records_of(topic, 3)
    replayed = {"bridge_origin": b"replay", "bridge_anomaly": b"replayed"}
    write_again(topic, older, ce_id=b"replay-1", **replayed)

    async with running(command(topic, "first"), tmp_path) as program:
        await caught_up(topic, "first")
        states = rows(tmp_path)
        await publish([status("job-1", "in_progress", "90.00")])
        await caught_up(topic, "first")
        states += rows(tmp_path)
        later = b"2999-01-01T00:00:00.000000Z"
        write_again(topic, older, ce_id=b"replay-2", ce_time=later, **replayed)
        await caught_up(topic, "first")
        await program.end()

    assert [*states, *rows(tmp_path)] == [
        ("job-1", "in_progress", "80.00", 4),
        ("job-1", "in_progress", "90.00", 5),
        ("job-1", "in_progress", "10.00", 6),
    ]
