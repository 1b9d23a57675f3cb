"""What was answered with 2xx is there, though the process be killed right after it."""

from __future__ import annotations

import itertools
import sqlite3  # noqa: TID251 - locks a bridge's file from outside
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import trio

from tests.outbox.making import opened, threaded
from tests.webhooks import dying
from tests.webhooks.making import body_of, completed, signed


_SENDERS = 12
_ANSWERS = 120
_LOCKED_SECONDS = 0.5


@contextmanager
def _started(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    program = [sys.executable, "-m", dying.__name__, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            # The last of what it prints: before it there may be its log.
            lines = iter(process.stdout.readline, b"")
            yield process, next(int(line) for line in lines if line.strip().isdigit())
        finally:
            process.kill()


async def _send_until_killed(
    process: subprocess.Popen[bytes], port: int, folder: Path
) -> set[str]:
    """Send webhooks of new jobs; give those that were answered with 200."""
    numbers, answered = itertools.count(), set[str]()

    async def kill() -> None:
        # Killed while nothing can be written: what is answered then isn't on the disk.
        with closing(
            sqlite3.connect(folder / "outbox.sqlite3", check_same_thread=False)
        ) as other:
            await trio.to_thread.run_sync(other.execute, "BEGIN IMMEDIATE")
            await trio.sleep(_LOCKED_SECONDS)
            process.kill()

    async def send() -> None:
        try:
            while True:
                job = f"job-{next(numbers)}"
                if b'{"status":"taken"}' in await _say(port, job):
                    answered.add(job)
                if len(answered) == _ANSWERS:
                    nursery.start_soon(kill)
        except (OSError, trio.BrokenResourceError):
            assert len(answered) >= _ANSWERS

    async with trio.open_nursery() as nursery:
        for _ in range(_SENDERS):
            nursery.start_soon(send)
    return answered


async def _say(port: int, job: str) -> bytes:
    """Send a webhook by hand, on a connection of its own; give the answer."""
    body = body_of("job.completed", completed(job), delivery_id=job)
    lines = ["POST /webhooks/dryapi HTTP/1.1", "Host: bridge", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in signed(body, time.time()).items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    answered = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join(lines).encode() + body)
        async for data in stream:
            answered += data
    return answered


async def test_a_kill_takes_nothing_that_was_answered(tmp_path: Path) -> None:
    """The next process has each of them, and none twice; dryAPI sends the others."""
    with _started(tmp_path) as (process, port):
        answered = await _send_until_killed(process, port, tmp_path)
    with opened(tmp_path) as outbox, threaded(outbox):
        held = [one.record.key for one in outbox.held(10_000).result(10)]
        found = {key.decode() for key in held if key is not None}
    assert len(held) == len(found)
    assert answered <= found
    # Of what was under way, some may have been written without being answered.
    assert len(found - answered) <= _SENDERS
