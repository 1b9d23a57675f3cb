"""
A process that floods a receiver with webhooks of every kind, good and bad.

`test_webhook_flood` starts it with a port, numbers and a seed. It prints how each
request was answered, as JSON.
"""

from __future__ import annotations

import random
import ssl
import sys
import time
from typing import Literal, get_args

import httpx  # noqa: TID251 - the flood is the sender
import msgspec
import trio

from tests.gaps.webhooks import (
    CLIENT_ID,
    PATH,
    SECRET,
    body_of,
    completed,
    failed,
    in_pieces,
    processing,
    request_of,
    signed,
)


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
KINDS: tuple[Kind, ...] = get_args(Kind)

GENUINE = frozenset(KINDS[:5])

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
        chosen = self._random.choices(KINDS, _WEIGHTS, k=count)
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
        if kind in GENUINE:
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


async def _main(port: int, count: int, connections: int, slow: int, seed: int) -> None:
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


if __name__ == "__main__":
    port, count, connections, slow, seed = map(int, sys.argv[1:])
    trio.run(_main, port, count, connections, slow, seed)
