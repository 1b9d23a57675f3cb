"""
Whether a record that heals is still needed.

The live stream always wins: what was heard of a job meanwhile, though it be by the
transaction under way, makes such a record needless. Whether one that is needed comes
where it should is judged by `order`, as of any other.
"""

from __future__ import annotations

from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Record
from bridge.outbox.jobs.in_flight import ENDED
from bridge.outbox.jobs.order import Order
from bridge.outbox.records import Healing


__all__ = ["is_awaited", "is_needed"]


def is_needed(order: Order, healing: Healing) -> bool:
    """Whether nothing was heard of a job since dryAPI was asked about it."""
    record, job = healing.record, healing.job
    if record.status is None or record.key is None:
        return True
    known = order.known(record.envelope.ce_source, record.key)
    return known is not None and known[:3] == (
        job.status,
        job.progress,
        job.last_seen_us,
    )


def is_awaited(order: Order, record: Record) -> bool:
    """Whether a webhook tells what nobody told: its job's end, or that there is one."""
    if record.status is None or record.key is None:
        return True
    known = order.known(record.envelope.ce_source, record.key)
    return known is None or (known is not ENDED and record.status in TERMINAL_STATUSES)
