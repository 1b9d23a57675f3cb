"""Webhooks through a real port into a real outbox: in floods, and with kill -9."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3  # noqa: TID251 - locks a bridge's file from outside
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import httpx  # noqa: TID251 - the flood is the sender
import msgspec
import pytest
import structlog
import trio

from bridge.events.record import StoredRecord
from bridge.gaps.webhook import Outcome
from bridge.http.server import Limits, serve
from tests.gaps.webhooks import (
    CLIENT_ID,
    PATH,
    SECRET,
    Receiving,
    body_of,
    completed,
    failed,
    in_pieces,
    processing,
    request_of,
    signed,
)
from tests.outbox.making import open_topics, opened, threaded
from tests.sandbox.client import wait_until


# -- The flood, in a process of its own ------------------------------------------------

Kind = Literal[
    "whole",
    "chunked",
    "again",
    "signed_again",
    "unreadable",
    "wrong_signature",
    "too_old",
    "too_large",
    "too_large_chunked",
    "truncated",
    "truncated_chunk",
]
_KINDS: tuple[Kind, ...] = get_args(Kind)

_GENUINE = frozenset(_KINDS[:5])

_WEIGHTS = (50, 12, 12, 6, 2, 6, 3, 2, 2, 3, 2)

_LARGE = b" " * 150_000
_PIECE_BYTES = 4096

# dryAPI's retries, sooner: while all connections are in use, one may be closed before
# its request.
_TRIES = 10
_PAUSE_SECONDS = 0.3

# Between the bytes of a slow client.
_DRIP_SECONDS = 0.2


class Answer(msgspec.Struct):
    """The answer to one request; its status is 0 if there was none."""

    kind: Kind
    job: str
    status: int
    content: str
    seconds: float


class Report(msgspec.Struct):
    """All answers, and how many slow clients were disconnected."""

    answers: list[Answer]
    seconds: float
    slow: int


class _Flood:
    def __init__(self, port: int, seed: int) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._random = random.Random(seed)
        self._sent: list[tuple[str, bytes]] = []
        self._number = 0

    def plan(self, count: int) -> list[tuple[Kind, str, bytes]]:
        """Choose kind, job and body of each request."""
        chosen = self._random.choices(_KINDS, _WEIGHTS, k=count)
        return [(kind, *self._body(kind)) for kind in chosen]

    def _body(self, kind: Kind) -> tuple[str, bytes]:
        if kind in {"again", "signed_again"} and self._sent:
            return self._random.choice(self._sent)
        self._number += 1
        job = f"{kind}-{self._number}"
        if kind == "unreadable":
            return job, f'no JSON: "{job}"'.encode()
        events = [
            ("job.completed", completed(job)),
            ("job.failed", failed(job)),
            ("job.processing", processing(job)),
        ]
        body = body_of(*self._random.choice(events))
        if kind.startswith("too_large"):
            body += _LARGE
        if kind in _GENUINE:
            self._sent.append((job, body))
        return job, body

    async def send(
        self, client: httpx.AsyncClient, kind: Kind, job: str, body: bytes
    ) -> None:
        """Send one, and keep the answer."""
        age = 301 if kind == "too_old" else 0
        secret = "guessed" if kind == "wrong_signature" else f"{SECRET}-{CLIENT_ID}"
        headers = signed(body, time.time() - age, secret=secret)
        begun = trio.current_time()
        status, content = 0, ""
        if kind.startswith("truncated"):
            await self._break_off(body, headers, is_chunked=kind != "truncated")
        else:
            is_chunked = kind in {"chunked", "too_large_chunked"}
            for _ in range(_TRIES):
                sent = in_pieces(body, _PIECE_BYTES) if is_chunked else body
                try:
                    answer = await client.post(PATH, content=sent, headers=headers)
                except httpx.TransportError as error:
                    status, content = 0, repr(error)
                else:
                    status, content = answer.status_code, answer.text
                if status not in {0, 408, 503}:
                    break
                await trio.sleep(_PAUSE_SECONDS)
        seconds = trio.current_time() - begun
        self.answers.append(Answer(kind, job, status, content, seconds))

    async def _break_off(
        self, body: bytes, headers: dict[str, str], *, is_chunked: bool
    ) -> None:
        # The body is complete, and the request isn't.
        framing = f"Content-Length: {len(body) + 1}"
        if is_chunked:
            framing = "Transfer-Encoding: chunked"
            body = b"%x\r\n%b\r\n" % (len(body), body)
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(request_of(body, headers, framing))


async def _drip(port: int, ended: list[int], number: int) -> None:
    """Send a head, or the body behind it, byte by byte and without an end."""
    headers = signed(b"", time.time()) if number % 2 else {}
    head = request_of(b"", headers, "Content-Length: 100000")
    if not number % 2:
        head = head.removesuffix(b"\r\n")
    while True:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(head)
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(_DRIP_SECONDS)
        except OSError:
            await trio.sleep(_DRIP_SECONDS)
        except trio.BrokenResourceError:
            ended.append(number)


async def _flood_port(
    port: int, count: int, connections: int, slow: int, seed: int
) -> None:
    flood = _Flood(port, seed)
    plan = flood.plan(count)
    ended: list[int] = []
    # Unused, but a context for each client takes longer than the flood.
    tls = ssl.create_default_context()

    async def work(number: int) -> None:
        # A pool of a thousand connections would be searched for every request.
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False, verify=tls
        ) as client:
            for each in plan[number::connections]:
                await flood.send(client, *each)

    begun = trio.current_time()
    async with trio.open_nursery() as slow_ones:
        for number in range(slow):
            slow_ones.start_soon(_drip, port, ended, number)
        async with trio.open_nursery() as workers:
            for number in range(connections):
                workers.start_soon(work, number)
        seconds = trio.current_time() - begun
        slow_ones.cancel_scope.cancel()
    report = Report(flood.answers, seconds, len(ended))
    sys.stdout.buffer.write(msgspec.json.encode(report))


# -- In front of it --------------------------------------------------------------------

# As `webhook.max_connections` and `webhook.max_body_bytes` have it.
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
                outbox, grace_period_seconds=0.5, max_body_bytes=_MAX_BODY_BYTES
            )
            app = receiving.receiver.app
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiving.holding.run)
                serving = partial(serve, limits=_LIMITS)
                port: int = await nursery.start(serving, app, "127.0.0.1:0")
                numbers = map(str, (port, count, connections, slow, 7))
                program = [sys.executable, "-m", __name__, *numbers]
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
        if answer.kind in _GENUINE:
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
    genuine = [answer for answer in report.answers if answer.kind in _GENUINE]
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
    assert {answer.kind for answer in report.answers} == set(_KINDS)
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
        receiving = Receiving(outbox, grace_period_seconds=3600)
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
        # The bridge writes all the time, so that the lock may be long in coming.
        lock = sqlite3.connect(file, timeout=30, check_same_thread=False)
        with closing(lock) as other:
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
    if len(sys.argv) == 2:
        trio.run(_receive, Path(sys.argv[1]))
    else:
        port, count, connections, slow, seed = map(int, sys.argv[1:])
        trio.run(_flood_port, port, count, connections, slow, seed)
