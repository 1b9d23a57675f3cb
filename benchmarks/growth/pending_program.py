"""
An outbox with many rows that wait, in a process of its own.

A program (`python -m benchmarks.growth.pending_program fill|measure FOLDER TOPIC ROWS
SERVERS`): `fill` lets so many rows wait in an empty outbox, `measure` opens it, accepts
as many again while Kafka takes nothing, lets the relay bring as many to Kafka, and
prints what each took. Rows go through the outbox's own doors, of jobs of ten events
each; there is no socket.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import trio

from benchmarks.growth.axes import PARTITIONS
from bridge.intake import Intake
from bridge.kafka.partitioner import partitioner
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.pusher.protocol import ChannelEvent
from bridge.record import Record
from bridge.settings import KafkaSettings, OutboxSettings


__all__: list[str] = []

# Of a job: processing, eight steps, done.
_JOB_EVENTS = 10

# So many jobs run side by side, their events in turn.
_TOGETHER = 100

# Offered together, as one read of the socket brings them.
_RUN = 500

# The largest number of rows takes more than the default of 8 GiB.
_MAX_BYTES = 64 * 2**30

_LOOK_SECONDS = 0.002
_FILL_SECONDS = 900.0
_STEP_SECONDS = 120.0


class _StepError(Exception):
    """A step took too long, or the outbox ended in the middle."""


def _records(topic: str, count: int) -> Iterator[list[Record]]:
    """Give runs of records, each job's in order; every call has jobs of its own."""
    made = list[Record]()
    intake = Intake(
        ce_source="https://api.dryapi.dev/clients/1",
        topic=topic,
        dead_letter_topic=f"{topic}.dlq",
        offer=made.extend,
    )
    left = count
    while left > 0:
        jobs = [str(uuid.uuid4()) for _ in range(_TOGETHER)]
        events = [
            ChannelEvent("request.status.updated", "private-client.1", event, "")
            for step in range(_JOB_EVENTS)
            for event in (_payload(job, step) for job in jobs)
        ][:left]
        left -= len(events)
        for first in range(0, len(events), _RUN):
            intake.accept(events[first : first + _RUN], time.time_ns() // 1000)
            yield made[:]
            made.clear()


def _payload(job: str, step: int) -> str:
    """Give the JSON text of an event of a job."""
    status = "in_progress"
    if step in {0, _JOB_EVENTS - 1}:
        status = "processing" if step == 0 else "done"
    url = f'"https://storage.dryapi.dev/results/{job}.jpg"'
    return (
        f'{{"request_id":"{job}","status":"{status}","preview":null,'
        f'"result_url":{url if status == "done" else "null"},'
        f'"progress":"{100 * step / (_JOB_EVENTS - 1):.2f}"}}'
    )


@contextmanager
def _outbox(folder: Path) -> Iterator[Outbox]:
    """Have an outbox open and at work inside the block."""
    with OutboxDirectory(folder) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=folder, max_bytes=_MAX_BYTES))
        thread = threading.Thread(target=outbox.run, name="outbox")
        thread.start()
        try:
            yield outbox
        finally:
            outbox.stop()
            thread.join()


def _open_topic(outbox: Outbox, topic: str) -> None:
    """Let rows go to lanes, as if Kafka had been reached before."""
    ends = {
        state.partition: (state.last_sequence, state.resume_offset or 0)
        for state in outbox.lane_states().result(_STEP_SECONDS)
    }
    opened = {number: ends.get(number, (0, 0)) for number in range(PARTITIONS)}
    outbox.open_topic(topic, partitioner(PARTITIONS), opened, None).result(
        _STEP_SECONDS
    )


def _accept(outbox: Outbox, runs: list[list[Record]], seconds: float) -> None:
    """Offer records as the reader would, and wait until all are committed."""
    deadline = time.monotonic() + seconds
    for run in runs:
        outbox.offer(run)
        while outbox.is_crowded():
            _wait(outbox, deadline)
    while not outbox.drained:
        _wait(outbox, deadline)


def _wait(outbox: Outbox, deadline: float) -> None:
    if outbox.has_ended or time.monotonic() > deadline:
        raise _StepError("the outbox ended, or took too long to take rows")
    time.sleep(_LOOK_SECONDS)


def _fill(folder: Path, topic: str, rows: int) -> dict[str, float]:
    """Let so many rows wait in an empty outbox; give what they take on disk."""
    began = time.monotonic()
    with _outbox(folder) as outbox:
        _open_topic(outbox, topic)
        for run in _records(topic, rows):
            _accept_some(outbox, run, began + _FILL_SECONDS)
        _accept(outbox, [], _STEP_SECONDS)
        if outbox.statistics.rows != rows:
            raise _StepError(f"{outbox.statistics.rows} rows wait, and not {rows}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"fill_seconds": time.monotonic() - began, "disk_bytes": size}


def _accept_some(outbox: Outbox, run: list[Record], deadline: float) -> None:
    outbox.offer(run)
    while outbox.is_crowded():
        _wait(outbox, deadline)


async def _measure(
    folder: Path, topic: str, rows: int, servers: str
) -> dict[str, float]:
    """Open, accept on top, drain as many; give what each took."""
    began, cpu = time.monotonic(), time.process_time()
    with _outbox(folder) as outbox:
        outbox.waiting_topics().result(_STEP_SECONDS)
        figures = {
            "open_seconds": time.monotonic() - began,
            "open_cpu_seconds": time.process_time() - cpu,
            "rest_bytes": psutil.Process(os.getpid()).memory_info().rss,
        }
        _open_topic(outbox, topic)
        figures |= _accepting(outbox, topic, rows)
        settings = KafkaSettings(bootstrap_servers=servers, replication_factor=1)
        relay = Relay(settings, [[topic]], outbox)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            try:
                with trio.fail_after(_STEP_SECONDS):
                    figures |= await _draining(outbox, relay, topic, rows)
            finally:
                relay.abort()
    return figures


def _accepting(outbox: Outbox, topic: str, rows: int) -> dict[str, float]:
    runs = list(_records(topic, rows))
    (thread,) = (one for one in threading.enumerate() if one.name == "outbox")
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    began, cpu = time.monotonic(), time.clock_gettime(clock)
    _accept(outbox, runs, _STEP_SECONDS)
    seconds = time.monotonic() - began
    return {
        "accept_us": (time.clock_gettime(clock) - cpu) * 1e6 / rows,
        "accepted_a_second": rows / seconds,
    }


async def _draining(
    outbox: Outbox, relay: Relay, topic: str, rows: int
) -> dict[str, float]:
    """Measure from the first acknowledgement on: before it lanes are opened."""

    def published() -> int:
        return relay.statistics.published.get(topic, 0)

    while not published():  # noqa: ASYNC110 - a thread's
        await trio.sleep(_LOOK_SECONDS)
    first, began, cpu = published(), time.monotonic(), time.process_time()
    while published() < rows and outbox.statistics.rows:  # noqa: ASYNC110
        await trio.sleep(5 * _LOOK_SECONDS)
    count = published() - first
    return {
        "drain_us": (time.process_time() - cpu) * 1e6 / count,
        "drained_a_second": count / (time.monotonic() - began),
    }


def _main(what: str, folder: Path, topic: str, rows: int, servers: str) -> None:
    if what == "fill":
        figures = _fill(folder, topic, rows)
    else:
        figures = trio.run(_measure, folder, topic, rows, servers)
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
