"""
The stages of a large event's way, each watched for what it copies.

Owns how an event is taken through each, in one thread and one stage after the other:
Python's memory is watched step by step (`allocations`), SQLite and the kernel are
asked. What the copies are for, and the table, is `copies`'.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the producer runs in a loop of its own
import base64
import ctypes
import importlib
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from benchmarks.allocations import Watch
from benchmarks.traffic import message_of, text_frame
from bridge.intake import Intake
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer.producer import Producer
from bridge.outbox.opening import Opened, open_outbox
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.pusher.websocket import connect_websocket
from bridge.record import Record, StoredRecord
from bridge.settings import KafkaSettings


__all__ = [
    "FILE_READ",
    "FILE_WRITTEN",
    "SQLITE",
    "TOPIC",
    "Copy",
    "Stage",
    "event_text",
    "from_socket",
    "of_frame",
    "of_intake",
    "open_store",
    "through_outbox",
    "to_kafka",
]

SQLITE = "SQLite's memory"
FILE_WRITTEN = "written to the file"
FILE_READ = "read from the file"

TOPIC = "copies"

_PREVIEW_BYTES = 100_000
_JPEG_HEAD = b"\xff\xd8\xff\xe0\x00\x10"

# Buffers have their size and code its caches by then.
_WARM_UPS = 3

# What is taken within a step and given back counts as a copy if nearly all of it fits.
_WHOLE = 0.9

_OUTBOX_BYTES = 2**30

# Less of the event's bytes than this are others' that went with them.
_MUCH = 0.25


@dataclass(frozen=True)
class Copy:
    """
    Bytes that were written once more.

    Attributes:
        place: Who did it.
        times: How often, where 1 is all of the event's bytes.
    """

    place: str
    times: float


@dataclass(frozen=True)
class Stage:
    """
    A part of an event's way.

    Attributes:
        name: Which one.
        copies: What was copied in it, in order.
    """

    name: str
    copies: tuple[Copy, ...]

    @property
    def times(self) -> float:
        """How often all in all."""
        return sum(copy.times for copy in self.copies)


def event_text() -> str:
    """Give the text of a frame whose preview passes for a JPEG: noise behind a head."""
    noise = random.Random(1).randbytes(_PREVIEW_BYTES * 3 // 4)
    preview = base64.b64encode(_JPEG_HEAD + noise).decode()
    return message_of(
        '{"request_id":"123e4567-e89b-12d3-a456-426614174000","status":"in_progress",'
        f'"preview":"data:image/jpeg;base64,{preview}","result_url":null,'
        '"progress":"45.50"}'
    )


def _stage(name: str, watch: Watch, size: int) -> Stage:
    """Sum up by place what was taken."""
    by_place: dict[str, float] = {}
    for one in watch.allocations:
        times = one.kept_bytes / size
        if one.passing_bytes >= _WHOLE * size:
            times += 1
        if times:
            by_place[one.place] = by_place.get(one.place, 0) + times
    return Stage(name, tuple(Copy(*item) for item in by_place.items()))


# -- From the socket to the record --------------------------------------------


def from_socket(text: str) -> Stage:
    """Take a message from a TCP connection, as the session does."""
    frame = text_frame(text)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        more = threading.Semaphore(0)
        server = threading.Thread(target=_serve, args=(listener, frame, more))
        server.start()
        try:
            watch = trio.run(_receive, port, more)
        finally:
            more.release(_WARM_UPS + 2)
            server.join()
    return _stage("socket to message", watch, len(text))


def _serve(listener: socket.socket, frame: bytes, more: threading.Semaphore) -> None:
    """Send a frame each time that one is wanted; it takes no memory meanwhile."""
    connection, _ = listener.accept()
    with connection:
        protocol = WSConnection(ConnectionType.SERVER)
        while not any(isinstance(event, Request) for event in protocol.events()):
            protocol.receive_data(connection.recv(4096))
        connection.sendall(protocol.send(AcceptConnection()))
        for _ in range(_WARM_UPS + 1):
            more.acquire()
            connection.sendall(frame)
        more.acquire()


async def _receive(port: int, more: threading.Semaphore) -> Watch:
    url = f"ws://127.0.0.1:{port}"
    with trio.fail_after(10):
        async with connect_websocket(url, max_message_bytes=10**7) as connection:
            for _ in range(_WARM_UPS):
                more.release()
                await connection.receive_run()
            with Watch() as watch:
                more.release()
                await connection.receive_run()
            connection.abort()
            return watch


def of_frame(text: str) -> Stage:
    """Decode a frame."""
    decode(text)
    with Watch() as watch:
        decode(text)
    return _stage("message to event", watch, len(text))


def of_intake(
    text: str, previews: Literal["inline", "drop", "topic"] = "inline"
) -> tuple[Stage, list[Record]]:
    """Make records of an event; give them too."""
    event = decode(text)
    assert type(event) is ChannelEvent
    offered: list[list[Record]] = []
    intake = Intake(
        ce_source="https://api/clients/1",
        topic=TOPIC,
        dead_letter_topic=f"{TOPIC}.dlq",
        offer=offered.append,
        previews=previews,
        preview_topic=TOPIC,
    )
    intake.accept([event], 1)
    with Watch() as watch:
        intake.accept([event], 1)
    return _stage(f"event to record, previews {previews}", watch, len(text)), offered[1]


# -- Through the outbox ------------------------------------------------------------


class _Disk:
    """SQLite's memory and this process's files, between two looks."""

    def __init__(self, opened: Opened, size: int) -> None:
        library = ctypes.CDLL(importlib.import_module("_sqlite3").__file__)
        self._used, self._most = (
            library.sqlite3_memory_used,
            library.sqlite3_memory_highwater,
        )
        self._used.restype = self._most.restype = ctypes.c_int64
        self._connection = opened.connection
        self._size = size

    @contextmanager
    def watching(self, found: list[Copy]) -> Iterator[None]:
        """Add what was copied inside."""
        self._connection.execute("PRAGMA shrink_memory")
        before, files = self._used(), _file_bytes()
        self._most(1)
        yield
        heap = (self._most(0) - before) / self._size
        written, read = (
            (now - then) / self._size
            for now, then in zip(_file_bytes(), files, strict=True)
        )
        found += [
            Copy(place, times)
            for place, times in (
                (SQLITE, heap),
                (FILE_WRITTEN, written),
                (FILE_READ, read),
            )
            if times >= _MUCH
        ]


def _file_bytes() -> tuple[int, int]:
    """Give the bytes that this process has written to files and read; Linux tells."""
    counters: Any = psutil.Process().io_counters()
    return counters.write_chars, counters.read_chars


@contextmanager
def open_store(folder: Path) -> Iterator[Opened]:
    """Have an outbox's file with one lane inside the block."""
    opened = open_outbox(folder / "outbox.db", _OUTBOX_BYTES)
    try:
        with opened.store.transaction():
            opened.store.open_topic(TOPIC, lambda _: 0, {0: (0, 0)}, None)
        yield opened
    finally:
        opened.store.close()


def through_outbox(
    opened: Opened, record: Record, size: int
) -> tuple[list[Stage], StoredRecord]:
    """Commit a record, empty the log, read the row back; give the row too."""
    store = opened.store
    disk = _Disk(opened, size)
    for _ in range(_WARM_UPS):
        with store.transaction():
            store.append([record])
    store.file.checkpoint()
    found: list[Copy] = []
    with disk.watching(found), store.transaction(), Watch() as watch:
        ((_, _, (row,)),) = store.append([record])
    stages = [_joined("record to disk", watch, size, found)]
    found = []
    with disk.watching(found):
        store.file.checkpoint()
    stages.append(Stage("log to database, later", tuple(found)))
    found = []
    with disk.watching(found), store.reading(), Watch() as watch:
        store.read(TOPIC, 0, 0, 1, _OUTBOX_BYTES)
    stages.append(_joined("disk to relay, where Kafka lags", watch, size, found))
    return stages, row


def _joined(name: str, watch: Watch, size: int, found: Sequence[Copy]) -> Stage:
    return Stage(name, (*_stage(name, watch, size).copies, *found))


# -- To Kafka ---------------------------------------------------------------------


def to_kafka(
    bootstrap_servers: str,
    row: StoredRecord,
    size: int,
    compression: Literal["none", "lz4", "zstd"] = "none",
) -> Stage:
    """Send a row as a lane does; the topic `TOPIC` must exist."""
    name = f"relay to Kafka, compression {compression}"
    settings = KafkaSettings(
        bootstrap_servers=bootstrap_servers, compression=compression
    )
    return _stage(name, asyncio.run(_send(settings, row)), size)


async def _send(settings: KafkaSettings, row: StoredRecord) -> Watch:
    producer = Producer(settings, HeaderWriter("outbox"))
    await producer.start()
    try:
        for _ in range(_WARM_UPS):
            await _send_one(producer, row)
        with Watch() as watch:
            await _send_one(producer, row)
        return watch
    finally:
        await producer.close()


async def _send_one(producer: Producer, row: StoredRecord) -> None:
    sent = await producer.send(TOPIC, 0, [row], 2 * len(row.value))
    async with asyncio.timeout(30):
        await sent.base_offset()
