"""
Jobs' statuses as dryAPI sends them, for the tests of the examples.

Owns their content alone: how they get onto a topic is `conftest`'s.
"""

from __future__ import annotations

from typing import Any


__all__ = ["Job", "status", "whole_job"]

Job = dict[str, Any]


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
