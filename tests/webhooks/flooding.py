"""A process that floods a receiver with webhooks of every kind, good and bad.

Started by `test_flood` with a port, numbers and a seed. It prints, as JSON, what each
request was answered; what is right the test decides.
"""

from __future__ import annotations

import random
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Literal, get_args

import httpx  # noqa: TID251 - the flood is the sender
import msgspec
import trio

from tests.webhooks.making import SECRET, body_of, completed, failed, processing, signed


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

_PATH = "/webhooks/dryapi"
_LARGE = b" " * 150_000

_TRIES = 10
_PAUSE_SECONDS = 0.3

# A slow client's next byte comes after so long.
_DRIP_SECONDS = 0.2


class Answer(msgspec.Struct):
    """What became of one request."""

    kind: Kind
    job: str
    status: int
    said: str
    seconds: float


class Report(msgspec.Struct):
    """What became of all."""

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
        """Choose what is sent: kind, job and body of each."""
        chosen = self._random.choices(KINDS, _WEIGHTS, k=count)
        return [(kind, *self._body(kind)) for kind in chosen]

    def _body(self, kind: Kind) -> tuple[str, bytes]:
        if kind in {"again", "signed_again"} and self._sent:
            return self._random.choice(self._sent)
        self._number += 1
        job = f"{kind}-{self._number}"
        if kind == "unreadable":
            return job, f'no JSON: "{job}"'.encode()
        about = self._random.choice(
            [
                ("job.completed", completed(job)),
                ("job.failed", failed(job)),
                ("job.processing", processing(job)),
            ]
        )
        body = body_of(*about)
        if kind.startswith("too_large"):
            body += _LARGE
        if kind in GENUINE:
            self._sent.append((job, body))
        return job, body

    async def send(
        self, client: httpx.AsyncClient, kind: Kind, job: str, body: bytes
    ) -> None:
        """Send one, and note the answer."""
        age = 301 if kind == "too_old" else 0
        secret = "guessed" if kind == "wrong_signature" else SECRET
        headers = signed(body, time.time() - age, secret=secret)
        begun = trio.current_time()
        status, said = 0, ""
        if kind.startswith("truncated"):
            await self._break_off(body, headers, is_chunked=kind != "truncated")
        else:
            is_chunked = kind in {"chunked", "too_large_chunked"}
            # As dryAPI does, if not so soon: while all places are taken a connection
            # may be ended just as the next request comes, or before its body has.
            for _ in range(_TRIES):
                content = _chunks(body) if is_chunked else body
                try:
                    answer = await client.post(_PATH, content=content, headers=headers)
                except httpx.TransportError as error:
                    status, said = 0, repr(error)
                else:
                    status, said = answer.status_code, answer.text
                if status not in {0, 408, 503}:
                    break
                await trio.sleep(_PAUSE_SECONDS)
        seconds = trio.current_time() - begun
        self.answers.append(Answer(kind, job, status, said, seconds))

    async def _break_off(
        self, body: bytes, headers: Mapping[str, str], *, is_chunked: bool
    ) -> None:
        lines = [f"POST {_PATH} HTTP/1.1", "Host: bridge"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # All of the body comes, and it is still not the whole request.
        if is_chunked:
            lines.append("Transfer-Encoding: chunked")
            sent = b"%x\r\n%b\r\n" % (len(body), body)
        else:
            lines.append(f"Content-Length: {len(body) + 1}")
            sent = body
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        await stream.send_all("\r\n".join([*lines, "", ""]).encode() + sent)
        await stream.aclose()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    step = max(len(body) // 3, 4096)
    for begin in range(0, len(body), step):
        yield body[begin : begin + step]


async def _drip(port: int, ended: list[int], number: int) -> None:
    # The head, or after it the body, a byte at a time and never to its end.
    head = f"POST {_PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: 100000\r\n"
    headers = signed(b"", time.time())
    if number % 2:
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += "\r\n"
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(head.encode())
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
    # No TLS is spoken; to make a context for each client takes longer than the flood.
    tls = ssl.create_default_context()

    async def work(number: int) -> None:
        # One connection each: a pool of a thousand is searched for every request.
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
