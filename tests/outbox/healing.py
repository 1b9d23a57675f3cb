"""Webhooks and answers for the tests of what heals; nothing here asserts."""

from __future__ import annotations

from msgspec import structs

from bridge.events.record import Origin, Record
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, Healing, JobInFlight
from tests.outbox.making import Log, event, fresh, spread


# A day of 2026, as the clock of these tests has it.
NOON_US = 1_780_000_000_000_000


def told_by(origin: Origin, record: Record) -> Record:
    """Make a record as another way than the socket brings it."""
    envelope = structs.replace(record.envelope, origin=origin)
    return structs.replace(record, envelope=envelope)


def delivery(  # noqa: PLR0917 - what a webhook has
    name: str,
    job: str,
    status: str = "done",
    due_us: int = NOON_US,
    ended_us: int | None = None,
    account: int = 7,
) -> Delivery:
    """Make a webhook."""
    record = told_by(Origin.WEBHOOK, event(job, status, account=account))
    return Delivery(name, record, due_us, ended_us)


def answer(
    job: JobInFlight, status: str = "done", *gap_ids: str, at_us: int = NOON_US
) -> Healing:
    """Make what the status endpoint says of a job."""
    record = event(job.request_id, status, at_us)
    return Healing(told_by(Origin.STATUS_ENDPOINT, record), job, gap_ids)


def open_jobs(outbox: Outbox) -> None:
    """Open the topic `jobs` with one lane."""
    outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)


def origins(log: Log) -> list[tuple[str | None, str]]:
    """Give the key and the origin of each row that the relay got."""
    return [
        (None if row.key is None else row.key.decode(), row.envelope.origin)
        for row in log.rows.get(("jobs", 0), [])
    ]
