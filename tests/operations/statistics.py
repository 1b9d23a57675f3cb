"""What the rooms count, as plain attributes that a test sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.errors import DeadLetterReason
from bridge.gaps.limiter import Limiter, Limits, Purpose
from bridge.operations.healing_sources import HealingSources
from bridge.operations.sources import Sources
from bridge.outbox.statistics import OutboxStatistics, TopicCounts


# One fixed moment for everything that has an age: 2025-11-24T12:00:00Z.
NOW = 1_763_985_600.0
NOW_US = int(NOW) * 1_000_000

# One fixed moment on the monotonic clock.
UPTIME = 5_000.0

_ID = "client-1"


def _buckets() -> Any:
    return SimpleNamespace(bounds=[0.005, 0.1, 1], counts=[4, 3, 2, 1], sum=7.25)


def finding(*facts: str) -> Any:
    """A fact about a topic, as it should be unless others are given."""
    names = ("what", "found", "needed", "verdict", "remedy")
    given = facts or ("partitions", "6", "1 or more", "fine", "")
    return SimpleNamespace(**dict(zip(names, given, strict=True)))


def session(**changes: Any) -> Any:
    """A session that is subscribed and has just read a frame."""
    usual = {
        "client_id": _ID,
        "state": "subscribed",
        "subscribed": True,
        "frames": 12,
        "events": 10,
        "other_events": 1,
        "unrecognized": 0,
        "connects": {"subscribed": 1},
        "probes": {"acknowledged": 3},
        "last_frame_at_us": NOW_US - 1_500_000,
        "last_close_code": None,
        "refused_reason": None,
    }
    return SimpleNamespace(**usual | changes)


def intake(**changes: Any) -> Any:
    """An intake that has made one dead letter of an event and three of previews."""
    reasons = DeadLetterReason
    usual = {
        "origin": "socket",
        "accepted": 9,
        "previews": 5,
        "dead_letters": {reasons.NOT_JSON: 1},
        "normalized": {"missing_field": 2, "preview_moved": 0},
        "preview_dead_letters": {reasons.INVALID_PREVIEW: 1, reasons.TOO_LARGE: 2},
    }
    return SimpleNamespace(**usual | changes)


def _outbox() -> OutboxStatistics:
    # Ten records came, three are in the buffer; of two topics' rows one was refused.
    return OutboxStatistics(
        topics={
            "jobs": TopicCounts(2, 7, 1, acknowledged=6, refused=1, waiting=3),
            "jobs.dlq": TopicCounts(committed=1, acknowledged=1),
        },
        rows=3,
        held=5,
        held_at_start=4,
        discarded=1,
        bytes=8192,
        oldest_received_at_us=NOW_US - 2_000_000,
        accepted=13,
        committed=4,
        superseded=2,
        withdrawn=1,
        dropped={"overflow": 1},
        dropped_previews=4,
        dropped_pictures=2,
        anomalies={"duplicate": 3, "regression": 1},
        unsendable=1,
        late=2,
        ended_jobs=50,
        forgotten_jobs=6,
        forgotten_ends=8,
    )


def _relay() -> Any:
    return SimpleNamespace(
        published={"jobs": 6, "jobs.dlq": 1},
        resumed={"jobs": 2},
        dead_letters=3,
        producer_recycles=1,
        publish_duration=_buckets(),
        delivery_durations={"jobs": _buckets()},
        topic_findings={
            "jobs": [
                finding(),
                finding("cleanup.policy", "6", "1 or more", "fine", ""),
            ]
        },
        connected=True,
        ever_connected=True,
        last_error=None,
        partitions=6,
        last_beat=UPTIME - 2,
        lag_seconds=0.03,
    )


def _gaps() -> Any:
    return SimpleNamespace(
        gaps={(_ID, "overflow"): 2, (_ID, "deaf"): 0},
        healed={(_ID, "status-endpoint"): 4, (_ID, "webhook"): 3},
        open={_ID: 1},
        seconds={_ID: 7.25},
        settled={_ID: 1},
        unknown={_ID: 1},
    )


def _reconciliation() -> Any:
    return SimpleNamespace(
        requests={(_ID, "answered"): 4, (_ID, "not_found"): 1},
        waiting={(_ID, "gap"): 2, (_ID, "stale"): 0},
        healed={_ID: 3},
        superseded={_ID: 1},
        unknown={_ID: 1},
    )


def _webhooks() -> Any:
    return SimpleNamespace(
        deliveries={(_ID, "taken"): 2, (_ID, "wrong_signature"): 1},
        events={(_ID, "job.processing"): 1, (_ID, "job.completed"): 1},
        unknown_account=1,
        last_terminal_at_us={_ID: NOW_US - 60_000_000},
    )


def _limiter() -> Limiter:
    # A Basic account's, after five calls.
    limiter = Limiter(UPTIME, reserve_percent=25, now_us=lambda: NOW_US)
    for _ in range(5):
        limiter.begin(Purpose.GAP, UPTIME)
        limiter.end(Limits(), UPTIME)
    return limiter


def _loop() -> Any:
    # Late once, by 20 ms.
    return SimpleNamespace(lag_seconds=0.02, tasks=17, last_beat=UPTIME - 0.5)


@dataclass
class Statistics:
    """Everything that a healthy bridge counts; later changes are seen."""

    sessions: list[Any] = field(default_factory=lambda: [session()])
    intakes: list[Any] = field(default_factory=lambda: [intake()])
    outbox: OutboxStatistics = field(default_factory=_outbox)
    relay: Any = field(default_factory=_relay)
    gaps: Any = field(default_factory=_gaps)
    loop: Any = field(default_factory=_loop)
    reconciliation: Any = field(default_factory=_reconciliation)
    limiter: Limiter = field(default_factory=_limiter)
    webhooks: Any = field(default_factory=_webhooks)
    released: Mapping[str, int] = field(
        default_factory=lambda: {"written": 1, "superseded": 1}
    )

    def healing(self) -> HealingSources:
        """Give those of healing alone."""
        return HealingSources(
            self.reconciliation,
            {_ID: self.limiter},
            lambda: UPTIME,
            self.webhooks,
            self.released,
            lambda _: 9,
            (_ID,),
        )

    def sources(self) -> Sources:
        """Give them to what reads them."""
        return Sources(
            self.sessions,
            self.intakes,
            self.outbox,
            self.relay,
            self.gaps,
            self.loop,
            self.healing(),
        )


def families(text: str) -> dict[str, Metric]:
    """Parse a text in which each family must occur once, by its name."""
    parsed: Iterable[Metric] = text_string_to_metric_families(  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        text
    )
    return {family.name: family for family in parsed}
