"""What webhooks say, and how they are signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.sandbox import SandboxConfig, Statistics
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import Prefix
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest
from bridge.sandbox.previews import STAGES, Pictures
from bridge.sandbox.webhooks import Delivery, Webhooks, headers


PICTURES = Pictures(
    previews=(("data:x",) * STAGES,), jpegs=((b"x",) * STAGES,), results=(b"x",)
)
# The documented codes.
_CODES = {
    "WORKER_TIMEOUT",
    "PROCESSING_ERROR",
    "AGE_RESTRICTED",
    "CONTEXT_LENGTH_EXCEEDED",
    "INVALID_INPUT",
    "UNKNOWN_ERROR",
}


class _Desk:
    """A book of jobs, and all that is sent of them."""

    def __init__(self) -> None:
        config = SandboxConfig(seed=7)
        addresses = Addresses("http://s", config.app)
        self.book = JobBook(config, PICTURES, addresses, Statistics())
        self.sent: list[Delivery] = []
        self.webhooks = Webhooks(addresses, self.sent.append)

    def start(self, *, steps: int = 3, fail: bool = False) -> Job:
        return self.book.start(JobRequest(steps=steps, fail=fail))

    def run(self, job: Job) -> list[dict[str, Any]]:
        """Let a job take all its steps; gives the bodies of its webhooks."""
        before = len(self.sent)
        while not job.finished:
            previous = job.status
            self.book.advance(job)
            self.webhooks.announce(job, previous)
        return [json.loads(each.body) for each in self.sent[before:]]


def _time(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def test_a_job_that_is_done_has_two_webhooks() -> None:
    """It begins and ends; what happens between them is the socket's business."""
    desk = _Desk()
    begun = datetime.now(UTC).replace(microsecond=0)
    job = desk.start()
    processing, completed = desk.run(job)
    assert [each.event for each in desk.sent] == ["job.processing", "job.completed"]
    for body, delivery in zip((processing, completed), desk.sent, strict=True):
        assert list(body) == ["event", "delivery_id", "timestamp", "data"]
        assert body["event"] == delivery.event
        assert body["delivery_id"] == delivery.delivery_id
        assert _time(body["timestamp"]) >= begun
        assert body["data"]["job_request_id"] == job.request_id
        assert body["data"]["job_type"] == "txt2img"
    about = processing["data"]
    assert (about["previous_status"], about["status"]) == ("pending", "processing")
    assert _time(about["started_at"]) >= begun
    assert len(about) == 5
    about = completed["data"]
    assert (about["previous_status"], about["status"]) == ("processing", "done")
    assert _time(about["completed_at"]) >= begun
    assert about["result_url"].startswith(f"http://s/results/{job.request_id}.jpg?")
    assert type(about["processing_time_ms"]) is int
    assert len(about) == 7


def test_a_job_that_fails_says_why() -> None:
    """`job.failed` has a documented code and a sentence; in time all codes come."""
    desk = _Desk()
    codes = set()
    for _ in range(60):
        *_, failed = desk.run(desk.start(fail=True))
        assert failed["event"] == "job.failed"
        about = failed["data"]
        assert (about["previous_status"], about["status"]) == ("processing", "error")
        assert _time(about["failed_at"]) >= _time(failed["timestamp"]).replace(
            microsecond=0
        )
        assert about["error_message"]
        assert len(about) == 7
        codes.add(about["error_code"])
    assert codes == _CODES


def test_the_time_that_a_job_took_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first step to its last, in milliseconds."""
    desk = _Desk()
    job = desk.start(steps=0)
    clock = iter([1_800_000_000.0, 1_800_000_002.5])
    book = desk.book
    for _ in range(2):
        now = next(clock)
        monkeypatch.setattr("bridge.sandbox.jobs.time.time", lambda now=now: now)
        previous = job.status
        book.advance(job)
        desk.webhooks.announce(job, previous)
    about = json.loads(desk.sent[-1].body)["data"]
    assert about["processing_time_ms"] == 2_500
    assert about["completed_at"] == "2027-01-15T08:00:02.500Z"


def test_a_job_that_is_ended_before_it_began_has_one_webhook() -> None:
    """Its previous status is `pending`, and it took no time."""
    desk = _Desk()
    done, failed = desk.start(), desk.start()
    desk.book.end(done)
    desk.webhooks.announce(done, "pending")
    desk.book.end(failed, JobError("NEW_CODE", "never seen"))
    desk.webhooks.announce(failed, "pending")
    first, second = (json.loads(each.body)["data"] for each in desk.sent)
    assert (first["previous_status"], first["processing_time_ms"]) == ("pending", 0)
    assert (second["error_code"], second["error_message"]) == ("NEW_CODE", "never seen")


def test_validation_asks_for_nothing_but_an_answer() -> None:
    """The dashboard's test has an id of its own and no job."""
    desk = _Desk()
    delivery_id = desk.webhooks.validate()
    (delivery,) = desk.sent
    body = json.loads(delivery.body)
    assert (body["event"], body["data"]) == ("webhook.validation", {})
    assert body["delivery_id"] == delivery.delivery_id == delivery_id
    assert uuid.UUID(delivery_id).version == 4


def test_deliveries_of_one_seed_have_ids_of_their_own() -> None:
    """The same jobs come again after a restart; a delivery's id never does."""
    desks = (_Desk(), _Desk())
    jobs = [desk.start() for desk in desks]
    for desk, job in zip(desks, jobs, strict=True):
        desk.run(job)
    assert jobs[0].request_id == jobs[1].request_id
    ids = [each.delivery_id for desk in desks for each in desk.sent]
    assert len(set(ids)) == len(ids) == 4


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
def test_each_try_is_signed_anew(prefix: Prefix) -> None:
    """The signature is over the header's timestamp, a dot and the raw body."""
    config = SandboxConfig(webhook_prefix=prefix, webhook_secret="whsec_sésame")
    delivery = Delivery("job.failed", "an-id", b'{"a":"\xc3\xa9"}')
    first, second = (headers(delivery, config, now) for now in (1_000.9, 44_200.2))
    for sent, timestamp in ((first, "1000"), (second, "44200")):
        message = timestamp.encode() + b'.{"a":"\xc3\xa9"}'
        expected = hmac.new("whsec_sésame".encode(), message, hashlib.sha256)
        assert sent == {
            "Content-Type": "application/json",
            "User-Agent": f"{prefix}-Webhook/1.0",
            f"X-{prefix}-Signature": f"sha256={expected.hexdigest()}",
            f"X-{prefix}-Timestamp": timestamp,
            f"X-{prefix}-Event": "job.failed",
            f"X-{prefix}-Delivery-Id": "an-id",
        }
