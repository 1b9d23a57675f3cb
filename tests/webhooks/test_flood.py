"""Webhooks in floods, through a real port into a real outbox: each counts once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import trio
from bridge.webhooks.signature import Fault
from bridge.webhooks.statistics import Outcome, Release

from bridge.events.record import StoredRecord
from bridge.http.server import Limits, serve
from tests.outbox.making import open_topics, opened, threaded
from tests.sandbox.client import wait_until
from tests.webhooks import flooding
from tests.webhooks.conftest import Told
from tests.webhooks.flooding import GENUINE, Answer, Report
from tests.webhooks.making import CLIENT_ID
from tests.webhooks.taking import Taking


_HOLD_SECONDS = 0.5

# As `webhook.max_connections` has it.
_LIMITS = Limits(max_connections=1000)

_EXPECTED = {
    "wrong_signature": {401},
    "too_old": {401},
    # The answer may be overtaken by the end of a connection that brings too much.
    "too_large": {413, 0},
    "too_large_chunked": {413, 0},
    "truncated": {0},
    "truncated_chunk": {0},
}


def _count(bridge: Taking, *outcomes: Outcome | Fault) -> int:
    """Say how many were answered so."""
    return sum(bridge.statistics.deliveries[CLIENT_ID, one] for one in outcomes)


async def _flood(
    path: Path, count: int, connections: int, slow: int
) -> tuple[Report, Taking, list[StoredRecord]]:
    """Flood a bridge; give what its client saw, and the rows of its outbox."""
    with ExitStack() as stack:
        outbox = stack.enter_context(opened(path))
        open_topics(outbox, "jobs", "jobs.dlq", partitions=3)
        log = stack.enter_context(threaded(outbox))
        bridge = Taking(outbox, _HOLD_SECONDS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.holding.run)

            async def open_port(*, task_status: trio.TaskStatus[int]) -> None:
                app = bridge.receiver.app
                listen = "127.0.0.1:0"
                await serve(app, listen, limits=_LIMITS, task_status=task_status)

            port: int = await nursery.start(open_port)
            numbers = map(str, (port, count, connections, slow, 7))
            program = [sys.executable, "-m", flooding.__name__, *numbers]
            run = await trio.run_process(program, capture_stdout=True)
            report = msgspec.json.decode(run.stdout, type=Report)
            released = bridge.statistics.released
            taken = _count(bridge, Outcome.TAKEN)
            await wait_until(lambda: sum(released.values()) == taken, seconds=30)
            await wait_until(lambda: outbox.statistics.rows == 0)
            nursery.cancel_scope.cancel()
        assert outbox.held(1).result(10) == []
    return report, bridge, [row for rows in log.values() for row in rows]


def _check(report: Report, bridge: Taking, rows: Iterable[StoredRecord]) -> None:
    """Nothing is lost, nothing taken that shouldn't be, and each is there once."""
    by_job: dict[str, list[Answer]] = {}
    for answer in report.answers:
        if answer.kind in GENUINE:
            assert answer.status == 200, answer
            by_job.setdefault(answer.job, []).append(answer)
        else:
            assert answer.status in _EXPECTED[answer.kind], answer
    for answers in by_job.values():
        said = Counter(json.loads(answer.said)["status"] for answer in answers)
        assert set(said) <= {"taken", "known"}
        # None, where the one that took it was broken off before its answer.
        assert said["taken"] <= 1
    told = Counter(_job_of(row) for row in rows)
    assert set(told) == set(by_job)
    assert set(told.values()) == {1}
    assert bridge.statistics.released[Release.WRITTEN] == len(told)
    genuine = [answer for answer in report.answers if answer.kind in GENUINE]
    assert _count(bridge, Outcome.TAKEN) == len(by_job)
    assert _count(bridge, Outcome.TAKEN, Outcome.KNOWN) >= len(genuine)
    cut = [one for one in report.answers if one.kind.startswith("truncated")]
    assert _count(bridge, Outcome.BROKEN_OFF) >= len(cut)


def _job_of(row: StoredRecord) -> str:
    if row.key is not None:
        job = row.key.decode()
        assert json.loads(row.value)["request_id"] == job
        return job
    return row.value.decode().split('"')[1]


async def test_a_flood(tmp_path: Path, told: Told) -> None:
    """A thousand over forty connections, a third of them of no use, and ten drip."""
    report, bridge, rows = await _flood(tmp_path, 1000, 40, 10)
    _check(report, bridge, rows)
    assert {answer.kind for answer in report.answers} == set(flooding.KINDS)
    assert _count(bridge, Outcome.UNAVAILABLE) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_great_flood(tmp_path: Path, told: Told) -> None:
    """Ten thousand while all thousand places are taken, a fifth of them by drips."""
    report, bridge, rows = await _flood(tmp_path, 10_000, 800, 200)
    _check(report, bridge, rows)
    seconds = sorted(each.seconds for each in report.answers if each.status == 200)
    middle, late = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
    print(  # noqa: T201 - what the run is for
        f"{len(report.answers) / report.seconds:.0f} a second, median {middle:.2f} s,"
        f" p99 {late:.2f} s; {report.slow} slow ones were ended"
    )
