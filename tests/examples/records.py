"""What goes onto a topic for the examples: jobs, and records written again."""

from __future__ import annotations

from typing import Any

import trio

from tests.conftest import Topic
from tests.kit import writer
from tests.kit.reader import Record, read_topic


Job = dict[str, Any]

_DEADLINE_SECONDS = 15.0


def status(request_id: str, word: str, progress: str | None = None) -> Job:
    """Give one status of one job, with a result where the job is done."""
    done = f"https://storage.example/{request_id}.png" if word == "done" else None
    return {
        "request_id": request_id,
        "status": word,
        "preview": None,
        "result_url": done,
        "progress": progress,
    }


def whole_job(request_id: str) -> list[Job]:
    """Give a job's three statuses, the last one being terminal."""
    return [
        status(request_id, "processing", "0.00"),
        status(request_id, "in_progress", "45.50"),
        status(request_id, "done", "100.00"),
    ]


async def records_of(topic: Topic, expected: int | None = None) -> list[Record]:
    """Read a topic to its end, waiting for at least so many records."""
    return await trio.to_thread.run_sync(
        read_topic, topic.bootstrap_servers, topic.name, expected, _DEADLINE_SECONDS
    )


def write_again(topic: Topic, record: Record, **headers: bytes) -> None:
    """Write a record behind all others of its partition, with more headers."""
    again = [_again(record, headers)]
    writer.write(topic.bootstrap_servers, topic.name, again)


def write_aborted(topic: Topic, record: Record, **headers: bytes) -> None:
    """Write a record so that only readers of uncommitted ones see it."""
    again = [_again(record, headers)]
    servers = topic.bootstrap_servers
    writer.write_transaction(servers, topic.name, again, commit=False)


def _again(record: Record, headers: dict[str, bytes]) -> writer.Sent:
    together = dict(record.headers) | headers
    return writer.Sent(record.value, record.key, together, 0, record.partition)
