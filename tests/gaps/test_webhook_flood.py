"""Webhooks through a real port into a real outbox: in floods, and with kill -9."""

from __future__ import annotations

import itertools
import json
import sqlite3  # noqa: TID251 - locks a bridge's file from outside
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import structlog
import trio

from bridge.events.record import StoredRecord
from bridge.gaps.webhook import Outcome
from bridge.http.server import Limits, serve
from tests.gaps import flooding
from tests.gaps.flooding import GENUINE, Answer, Report
from tests.gaps.webhooks import (
    CLIENT_ID,
    SECRET,
    Receiving,
    body_of,
    completed,
    request_of,
    signed,
)
from tests.outbox.making import open_topics, opened, threaded
from tests.sandbox.client import wait_until


# As the bridge has it.
_LIMITS = Limits(max_connections=1000)
_MAX_BODY_BYTES = 128 * 1024

_EXPECTED = {
    "wrong_signature": {401},
    "too_old": {401},
    # The end of a connection that sends too much may overtake the answer.
    "too_large": {413, 0},
    "too_large_chunked": {413, 0},
    "truncated": {0},
    "truncated_chunk": {0},
}


def _count(receiving: Receiving, *outcomes: Outcome) -> int:
    """Return how many were answered so."""
    deliveries = receiving.statistics.deliveries
    return sum(deliveries[CLIENT_ID, outcome] for outcome in outcomes)


async def _flood(
    path: Path, count: int, connections: int, slow: int
) -> tuple[Report, Receiving, list[StoredRecord]]:
    """Flood a bridge; return what its client saw, and the log behind its outbox."""
    with opened(path) as outbox, structlog.testing.capture_logs():
        open_topics(outbox, "jobs.dlq", partitions=3)
        with threaded(outbox) as log:
            receiving = Receiving(
                outbox, hold_seconds=0.5, max_body_bytes=_MAX_BODY_BYTES
            )
            app = receiving.receiver.app
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiving.holding.run)
                serving = partial(serve, limits=_LIMITS)
                port: int = await nursery.start(serving, app, "127.0.0.1:0")
                numbers = map(str, (port, count, connections, slow, 7))
                program = [sys.executable, "-m", flooding.__name__, *numbers]
                run = await trio.run_process(program, capture_stdout=True)
                report = msgspec.json.decode(run.stdout, type=Report)
                released = receiving.holding.released
                taken = _count(receiving, Outcome.TAKEN)
                await wait_until(lambda: sum(released.values()) == taken, seconds=30)
                await wait_until(lambda: outbox.statistics.rows == 0)
                nursery.cancel_scope.cancel()
            assert outbox.held(1).result(10) == []
    return report, receiving, [row for rows in log.values() for row in rows]


def _check(report: Report, receiving: Receiving, rows: Iterable[StoredRecord]) -> None:
    """Nothing is lost, nothing refused is taken, and each job is there once."""
    by_job: dict[str, list[Answer]] = {}
    for answer in report.answers:
        if answer.kind in GENUINE:
            assert answer.status == 200, answer
            by_job.setdefault(answer.job, []).append(answer)
        else:
            assert answer.status in _EXPECTED[answer.kind], answer
    for answers in by_job.values():
        outcomes = Counter(json.loads(answer.content)["status"] for answer in answers)
        assert set(outcomes) <= {"taken", "known"}
        # Zero, where the connection ended before the answer of the one that took it.
        assert outcomes["taken"] <= 1
    jobs = Counter(_job_of(row) for row in rows)
    assert set(jobs) == set(by_job)
    assert set(jobs.values()) == {1}
    assert receiving.holding.released["written"] == len(jobs)
    genuine = [answer for answer in report.answers if answer.kind in GENUINE]
    assert _count(receiving, Outcome.TAKEN) == len(by_job)
    assert _count(receiving, Outcome.TAKEN, Outcome.KNOWN) >= len(genuine)
    cut = [one for one in report.answers if one.kind.startswith("truncated")]
    assert _count(receiving, Outcome.BROKEN_OFF) >= len(cut)


def _job_of(row: StoredRecord) -> str:
    if row.key is not None:
        job = row.key.decode()
        assert json.loads(row.value)["request_id"] == job
        return job
    return row.value.decode().split('"')[1]


async def test_flood_is_taken(tmp_path: Path) -> None:
    """A thousand on forty connections, a third of them bad, beside ten slow clients."""
    report, receiving, rows = await _flood(tmp_path, 1000, 40, 10)
    _check(report, receiving, rows)
    assert {answer.kind for answer in report.answers} == set(flooding.KINDS)
    assert _count(receiving, Outcome.UNAVAILABLE) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_long_flood_is_taken(tmp_path: Path) -> None:
    """Ten thousand while all thousand slots are in use, a fifth by slow clients."""
    report, receiving, rows = await _flood(tmp_path, 10_000, 800, 200)
    _check(report, receiving, rows)
    seconds = sorted(each.seconds for each in report.answers if each.status == 200)
    middle, late = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
    print(  # noqa: T201 - the figures of the run
        f"{len(report.answers) / report.seconds:.0f} a second, median {middle:.2f} s,"
        f" p99 {late:.2f} s; {report.slow} slow clients were disconnected"
    )


# -- kill -9 ---------------------------------------------------------------------------

_SENDERS = 12
_ANSWERS = 120
_LOCKED_SECONDS = 0.5


async def _receive(path: Path) -> None:
    """Receive webhooks until the process is killed; prints the port."""
    with opened(path) as outbox, threaded(outbox):
        receiving = Receiving(outbox, hold_seconds=3600)
        async with trio.open_nursery() as nursery:
            app = receiving.receiver.app
            port: int = await nursery.start(serve, app, "127.0.0.1:0")
            print(port, flush=True)  # noqa: T201 - for the test


@contextmanager
def _started(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    program = [sys.executable, "-m", __name__, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            # Lines of its log may come first.
            lines = iter(process.stdout.readline, b"")
            yield process, next(int(line) for line in lines if line.strip().isdigit())
        finally:
            process.kill()


async def _send_until_killed(
    process: subprocess.Popen[bytes], port: int, folder: Path
) -> set[str]:
    """Send webhooks of new jobs; return the jobs that were answered with 200."""
    numbers, answered = itertools.count(), set[str]()

    async def kill() -> None:
        # While nothing can be written: an answer from now on would be a false one.
        file = folder / "outbox.sqlite3"
        with closing(sqlite3.connect(file, check_same_thread=False)) as other:
            await trio.to_thread.run_sync(other.execute, "BEGIN IMMEDIATE")
            await trio.sleep(_LOCKED_SECONDS)
            process.kill()

    async def send() -> None:
        try:
            while True:
                job = f"job-{next(numbers)}"
                if b'{"status":"taken"}' in await _answer(port, job):
                    answered.add(job)
                if len(answered) == _ANSWERS:
                    nursery.start_soon(kill)
        except (OSError, trio.BrokenResourceError):
            assert len(answered) >= _ANSWERS

    async with trio.open_nursery() as nursery:
        for _ in range(_SENDERS):
            nursery.start_soon(send)
    return answered


async def _answer(port: int, job: str) -> bytes:
    body = body_of("job.completed", completed(job), delivery_id=job)
    headers = signed(body, time.time(), secret=f"{SECRET}-{CLIENT_ID}")
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request_of(body, {**headers, "Connection": "close"}))
        async for data in stream:
            answer += data
    return answer


async def test_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """The next process has each webhook once; dryAPI repeats the others."""
    with _started(tmp_path) as (process, port):
        answered = await _send_until_killed(process, port, tmp_path)
    with opened(tmp_path) as outbox, threaded(outbox):
        held = [one.record.key for one in outbox.held(10_000).result(10)]
        found = {key.decode() for key in held if key is not None}
    assert len(held) == len(found)
    assert answered <= found
    # Of the last requests some were written and not answered.
    assert len(found - answered) <= _SENDERS


if __name__ == "__main__":
    trio.run(_receive, Path(sys.argv[1]))
