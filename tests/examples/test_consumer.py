"""The Python example keeps its promises against records that the bridge wrote."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - the example's own database
import sys
from contextlib import closing
from pathlib import Path

from tests.conftest import Topic
from tests.examples.conftest import Job, Publish
from tests.examples.program import caught_up, running


_EXAMPLE = Path(__file__).parents[2] / "examples" / "consumer.py"


def _job(request_id: str, status: str, progress: str) -> Job:
    done = f"https://storage.example/{request_id}.png" if status == "done" else None
    return {
        "request_id": request_id,
        "status": status,
        "preview": None,
        "result_url": done,
        "progress": progress,
    }


def _whole_job(request_id: str) -> list[Job]:
    return [
        _job(request_id, "processing", "0.00"),
        _job(request_id, "in_progress", "45.50"),
        _job(request_id, "done", "100.00"),
    ]


def _command(topic: Topic, group: str) -> list[str | Path]:
    options = ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.name]
    return [sys.executable, _EXAMPLE, *options, "--group", group]


def _rows(folder: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(folder / "jobs.sqlite3")) as database:
        query = "SELECT request_id, status, progress FROM jobs ORDER BY request_id"
        return database.execute(query).fetchall()


async def test_keeps_a_row_and_says_once_that_a_job_finished(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Each job has one row with its last state, and each finished job one line."""
    jobs = [_whole_job(f"job-{number}") for number in range(4)]
    await publish([status for job in jobs for status in job])
    await publish([_job("job-9", "in_progress", "12.25")])

    async with running(_command(topic, "first"), tmp_path) as program:
        lines = await program.lines(4)
        await caught_up(topic, "first")
        code, rest = await program.end()

    assert sorted(lines) == [
        f"job-{number} done https://storage.example/job-{number}.png"
        for number in range(4)
    ]
    assert (code, rest) == (0, "")
    finished = [(f"job-{number}", "done", "100.00") for number in range(4)]
    assert _rows(tmp_path) == [*finished, ("job-9", "in_progress", "12.25")]


async def test_reading_everything_again_changes_nothing(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """A second pass over the same records writes no line and undoes no row."""
    await publish(_whole_job("job-1"))
    async with running(_command(topic, "first"), tmp_path) as program:
        await program.lines(1)
        await program.end()
    before = _rows(tmp_path)

    async with running(_command(topic, "second"), tmp_path) as program:
        await caught_up(topic, "second")
        code, output = await program.end()

    assert (code, output) == (0, "")
    assert _rows(tmp_path) == before == [("job-1", "done", "100.00")]


async def test_goes_on_where_it_was(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """A restarted consumer handles what came meanwhile, and that alone."""
    await publish(_whole_job("job-1"))
    async with running(_command(topic, "first"), tmp_path) as program:
        await program.lines(1)
        await caught_up(topic, "first")
        await program.end()
    (tmp_path / "jobs.sqlite3").unlink()
    await publish(_whole_job("job-2"))

    async with running(_command(topic, "first"), tmp_path) as program:
        (line,) = await program.lines(1)
        await caught_up(topic, "first")
        await program.end()

    assert line.startswith("job-2 done")
    assert _rows(tmp_path) == [("job-2", "done", "100.00")]
