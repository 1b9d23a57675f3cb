"""A proxy between clients and one broker that holds single requests back.

Owns the way of the bytes and the frames of Kafka's protocol, as far as their
length, kind and number go. Which request is held, and what must follow from it, is
for the tests. `KafkaServer.detours` says where it stands.

A request that is held outlives its client: it reaches the broker when it is
released, as if it had been on its way through a network all the time.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

import trio

from tests.kit.kafka import Detour


__all__ = ["HeldRequest", "KafkaProxy", "RequestKind"]

# https://kafka.apache.org/protocol: a frame is its length in four bytes and its
# content; a request begins with its kind, its version and its number, an answer
# with the number of its request.
_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")
_ANSWER = struct.Struct(">i")

_CHUNK_BYTES = 64 * 1024

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class RequestKind(IntEnum):
    """Kafka's numbers of the requests that tests hold."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    END_TXN = 26


@dataclass
class HeldRequest:
    """
    A request that was held.

    Attributes:
        kind: Kafka's number of its kind.
        answer: What the broker answered once it was released: the frame without
            its length; None until then.
    """

    kind: int
    answer: bytes | None = None
    _answered: trio.Event = field(default_factory=trio.Event)

    def take(self, answer: bytes) -> None:
        """Note the broker's answer."""
        self.answer = answer
        self._answered.set()

    async def wait_answer(self) -> None:
        """Wait for the broker's answer; the caller has a deadline."""
        await self._answered.wait()


class KafkaProxy:
    """
    The proxy in front of one broker.

    Args:
        detour: Where it listens and whither it leads.

    Attributes:
        bootstrap_servers: What a client is told that shall go through it.
        held: Requests that were held since the last `hold`, in order. What comes
            behind one on its connection waits too, and is not listed.
    """

    def __init__(self, detour: Detour) -> None:
        self._detour = detour
        self._kinds: Collection[int] = ()
        self._came = trio.Event()
        self._released = trio.Event()
        self.bootstrap_servers = f"127.0.0.1:{detour.port}"
        self.held: list[HeldRequest] = []

    async def serve(
        self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Pass connections on until cancelled; `nursery.start` waits for the port."""
        await trio.serve_tcp(
            self._pass_on, self._detour.port, host="127.0.0.1", task_status=task_status
        )

    # -- What a test orders ---------------------------------------------------

    def hold(self, *kinds: RequestKind) -> None:
        """Let go what is held; hold these kinds now, and what comes behind them."""
        released, self._released = self._released, trio.Event()
        self.held = []
        self._kinds = kinds
        released.set()

    async def wait_held(self, count: int = 1) -> None:
        """Wait until so many requests are held; the caller has a deadline."""
        while len(self.held) < count:
            self._came = trio.Event()
            await self._came.wait()

    async def release(self) -> None:
        """Let go what is held, and wait until the broker has answered all of it."""
        held = self.held
        self.hold()
        for request in held:
            await request.wait_answer()

    # -- The way of the bytes -------------------------------------------------

    async def _pass_on(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                broker = await trio.open_tcp_stream(
                    "127.0.0.1", self._detour.broker_port
                )
            except OSError:
                return  # the broker is down: the client sees its connection end
            # Unbounded: what a client has sent is on its way, whatever is held.
            into, out_of = trio.open_memory_channel[bytes](float("inf"))
            waiting: dict[int, HeldRequest] = {}
            async with broker, trio.open_nursery() as nursery:
                nursery.start_soon(_take_in, client, into)
                nursery.start_soon(self._take_on, out_of, broker, waiting, nursery)
                nursery.start_soon(_take_back, broker, client, waiting, nursery)

    async def _take_on(
        self,
        requests: trio.MemoryReceiveChannel[bytes],
        broker: trio.SocketStream,
        waiting: dict[int, HeldRequest],
        nursery: trio.Nursery,
    ) -> None:
        """Bring requests to the broker, in order and when they may go."""
        async with requests:
            async for frame in requests:
                kind, _, number = _REQUEST.unpack_from(frame)
                if kind in self._kinds:
                    waiting[number] = request = HeldRequest(kind)
                    self.held.append(request)
                    self._came.set()
                    await self._released.wait()
                await _send(broker, frame)
        # The client is gone; what it has sent is answered all the same.
        for request in list(waiting.values()):
            await request.wait_answer()
        nursery.cancel_scope.cancel()


async def _take_in(
    client: trio.SocketStream, into: trio.MemorySendChannel[bytes]
) -> None:
    """Take requests from the client until it is gone."""
    async with into:
        async for frame in _frames(client):
            await into.send(frame)


async def _take_back(
    broker: trio.SocketStream,
    client: trio.SocketStream,
    waiting: dict[int, HeldRequest],
    nursery: trio.Nursery,
) -> None:
    """Bring answers to the client as long as there is one."""
    async for frame in _frames(broker):
        (number,) = _ANSWER.unpack_from(frame)
        await _send(client, frame)
        if number in waiting:
            waiting.pop(number).take(frame)
    nursery.cancel_scope.cancel()


async def _frames(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    """Give the frames that come, without their lengths, until the stream ends."""
    gathered = bytearray()
    with suppress(*_BROKEN):
        while chunk := await stream.receive_some(_CHUNK_BYTES):
            gathered += chunk
            while len(gathered) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(gathered)
                end = _LENGTH.size + length
                if len(gathered) < end:
                    break
                frame = bytes(gathered[_LENGTH.size : end])
                del gathered[:end]
                yield frame


async def _send(stream: trio.SocketStream, frame: bytes) -> None:
    """Send a frame to somebody who may be gone."""
    with suppress(*_BROKEN):
        await stream.send_all(_LENGTH.pack(len(frame)) + frame)
