"""A produce request is as aiokafka writes it, but that its batches are copied once."""

from __future__ import annotations

import asyncio  # noqa: TID251 - aiokafka's connections want a loop
import gc
import tracemalloc
import weakref
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection  # noqa: TID251 - what writes requests
from aiokafka.protocol.api import Request  # noqa: TID251 - what is written
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251 - as above
from aiokafka.protocol.produce import ProduceRequest  # noqa: TID251 - as above

from bridge.kafka.producer.one_piece import in_one_piece


_Topics = list[tuple[str, list[tuple[int, bytes | bytearray]]]]


class _Wire:
    """An `asyncio.StreamWriter` that nobody reads."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def _written(request: Request[Any], version: int = 7) -> bytes:
    """What aiokafka's connection writes to a broker that knows one version."""
    wire = _Wire()

    async def send() -> None:
        connection = AIOKafkaConnection("localhost", 9092)
        connection._writer = wire
        connection._versions = {request.API_KEY: (version, version)}
        connection.send(request).close()

    asyncio.run(send())
    (written,) = wire.written
    return written


def _request(topics: _Topics, transactional_id: str | None) -> ProduceRequest:
    return ProduceRequest(
        transactional_id=transactional_id,
        required_acks=-1,
        timeout=20_000,
        topics=topics,
    )


@pytest.mark.parametrize("version", range(8))
@pytest.mark.parametrize(
    "topics",
    [
        [],
        [("jobs", [(0, bytearray(b"one batch"))])],
        [("jobs", [(0, b"a"), (5, b"")]), ("jöbs", [(2, bytearray(b"c" * 9))])],
    ],
    ids=["nothing", "one batch", "some of two topics"],
)
def test_the_bytes_are_those_of_aiokafka(topics: _Topics, version: int) -> None:
    """Length, header and body of every version that aiokafka speaks."""
    name = "tx" if version >= 3 else None

    expected = _written(_request(topics, name), version)

    assert _written(in_one_piece(_request(topics, name)), version) == expected


def test_other_requests_are_left_alone() -> None:
    """What carries no batches is written as ever."""
    expected = _written(MetadataRequest(["jobs"]), 1)

    assert _written(in_one_piece(MetadataRequest(["jobs"])), 1) == expected


def test_a_batch_is_copied_once() -> None:
    """There is the batch, and there is what goes to the socket."""
    batch = bytearray(10**6)
    request = in_one_piece(_request([("jobs", [(0, batch)])], None))

    tracemalloc.start()
    try:
        written = _written(request)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(written) > len(batch)
    assert peak < 1.5 * len(batch)


class _Watched(bytearray):
    """A batch of which it can be seen when it goes."""


def test_a_batch_goes_with_its_request() -> None:
    """A megabyte each would wait for the collector, which counts objects alone."""
    batch = _Watched(b"batch")
    seen = weakref.ref(batch)
    request = in_one_piece(_request([("jobs", [(0, batch)])], None))
    gc.disable()
    try:
        _send_by_hand(request)
        del request, batch
        assert seen() is None
    finally:
        gc.enable()


def _send_by_hand(request: Any) -> None:
    """Do with a request what a connection does, and keep nothing."""
    struct = request.prepare({request.API_KEY: (7, 7)})
    header = struct.build_request_header(correlation_id=1, client_id="bridge")
    assert b"batch" in b"size" + (header.encode() + struct.encode())
