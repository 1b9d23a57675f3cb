"""What the tests put into the stand-in: a board that is full of everything."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.sandbox.jobs import STAGES, paint
from tests.browser.stand_in import StandIn, now_ms


_PREVIEW_BYTES = 8_000


def preview_of(stage: int) -> bytes:
    """Give a picture as sharp as a stage has it."""
    return paint(_PREVIEW_BYTES).jpegs[0][stage % STAGES]


PICTURES = STAGES


def ago(seconds: float) -> str:
    """Return a time as gaps have it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def a_gap(gap_id: str, **members: Any) -> dict[str, Any]:
    """Describe a gap that is resolved, with some members changed."""
    return {
        "gap_id": gap_id,
        "client_id": "sandbox",
        "cause": "disconnected",
        "since": ago(400),
        "until": ago(350),
        "jobs_in_flight": 7,
        "healed_by_status_endpoint": 3,
        "healed_by_webhook": 2,
        "unknown": 0,
    } | members


def reason_of(reason: str, **members: Any) -> dict[str, Any]:
    """Describe the dead letters of a reason."""
    return {
        "reason": reason,
        "count": 12,
        "last_ms": now_ms() - 30_000,
        "id": "8db73fd4",
        "text": '{"request_id":"8db73fd4"}',
        "error": "late",
    } | members


_MORE: dict[str, dict[str, Any]] = {
    "in_progress": {},
    "done": {"result_url": "https://example.org/result.png", "has_result": True},
    "processing": {},
    "error": {"error": "generation_failed: no worker had memory"},
    "thinking": {"preview_note": "too large"},
}


def fill(board: StandIn, jobs: int = 40) -> list[str]:
    """
    Put everything in: jobs of each status, gaps of each kind, dead letters.

    Returns:
        The jobs' ids, oldest first.
    """
    dice = random.Random(7)  # the same board each time
    now = now_ms()
    ids = [str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(jobs)]
    for at, job_id in enumerate(ids):
        status = ("in_progress", "done", "processing", "error", "thinking")[at % 5]
        began = now - (jobs - at) * 3_000
        board.put(job_id, status=status, first_ms=began)
        if status in {"in_progress", "done"}:
            board.put_preview(job_id, "image/jpeg", preview_of(at))
        if status in {"done", "error"}:
            board.put(job_id, ended_ms=began + 2_500, origin="webhook")
        board.put(job_id, account=("shop", "gallery")[at % 2], **_MORE[status])
        if status == "in_progress":
            board.put(job_id, progress=at * 2.5)
    board.gaps = [
        a_gap("open", since=ago(9), until=None, unknown=None),
        a_gap("closed", since=ago(90), until=ago(60), unknown=None),
        a_gap("resolved"),
        a_gap("unknown", since=ago(700), until=ago(640), unknown=2),
        a_gap("first", cause="first_start", since=None, until=ago(800)),
    ]
    board.dead_letters = [reason_of("after_terminal"), reason_of("not_json", id=None)]
    board.shown |= {
        "events_per_second": 42.3,
        "latency_p50_ms": 8.3,
        "latency_p99_ms": 1447.4,
    }
    return ids
