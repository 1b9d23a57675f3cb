"""A proxy in front of one broker that can hold single requests of Kafka's protocol.

A request that is held outlives its client: it reaches the broker when it is released,
as if a network had delayed it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum

import trio

from tests.kit.kafka import Detour
from tests.kit.proxy import Chunks, FaultProxy, Frames, View


# https://kafka.apache.org/protocol: a frame is its length in four bytes and its
# content; a request begins with its kind, its version and its number, an answer
# with the number of its request.
_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")
_ANSWER = struct.Struct(">i")


class RequestKind(IntEnum):
    """Kafka's numbers of the requests that tests hold."""

    PRODUCE = 0
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    END_TXN = 26


@dataclass
class HeldRequest:
    """A request that was held."""

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


class KafkaProxy(FaultProxy):
    """The proxy in front of one broker."""

    # What a client has sent is on its way, whatever is held.
    chunks = float("inf")

    def __init__(self, detour: Detour) -> None:
        super().__init__(f"127.0.0.1:{detour.broker_port}", port=detour.port)
        self.bootstrap_servers = self.address
        self.held: list[HeldRequest] = []
        self._kinds: Collection[int] = ()
        self._came = trio.Event()
        self._released = trio.Event()

    def view(self) -> View:
        """Make the view of one connection's requests."""
        return _Requests(self)

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

    def note(self, kind: int) -> tuple[HeldRequest, trio.Event] | None:
        """Note a request that is held until the event; None for one that passes."""
        if kind not in self._kinds:
            return None
        request = HeldRequest(kind)
        self.held.append(request)
        self._came.set()
        return request, self._released


class _Requests(View):
    """The requests of one connection, and the held ones that await their answers."""

    def __init__(self, proxy: KafkaProxy) -> None:
        self._proxy = proxy
        self._waiting: dict[int, HeldRequest] = {}

    async def onward(self, chunks: Chunks) -> Chunks:
        frames = Frames(_frame_length)
        async for chunk in chunks:
            for frame in frames.take(chunk):
                kind, _, number = _REQUEST.unpack_from(frame, _LENGTH.size)
                if held := self._proxy.note(kind):
                    self._waiting[number], released = held
                    await released.wait()
                yield frame
        # The client is gone; what it has sent is answered all the same.
        for request in list(self._waiting.values()):
            await request.wait_answer()

    async def back(self, chunks: Chunks) -> Chunks:
        frames = Frames(_frame_length)
        async for chunk in chunks:
            for frame in frames.take(chunk):
                yield frame
                (number,) = _ANSWER.unpack_from(frame, _LENGTH.size)
                if number in self._waiting:
                    self._waiting.pop(number).take(frame[_LENGTH.size :])


def _frame_length(gathered: bytearray) -> int | None:
    if len(gathered) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(gathered)
    return _LENGTH.size + int(length)
