"""The statistics of a healthy bridge, for a test to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.errors import DeadLetterReason
from bridge.events.intake import IntakeStatistics
from bridge.events.job_status import Change
from bridge.gaps.ledger import GapStatistics
from bridge.gaps.limiter import Limiter, Limits, Purpose
from bridge.gaps.receiver import WebhookStatistics
from bridge.gaps.reconciler import ReconciliationStatistics
from bridge.gaps.webhook import Event, Outcome
from bridge.healing import FinishedJobs
from bridge.kafka.relay.statistics import Durations, RelayStatistics
from bridge.kafka.topic_checks import TopicFinding, Verdict
from bridge.operations.health import LoopHeartbeat, Sources
from bridge.operations.metrics import Metrics
from bridge.outbox.statistics import OutboxStatistics, TopicCounts
from bridge.pusher.connection import State
from bridge.pusher.connection import Statistics as SessionStatistics
from bridge.pusher.keepalive import ProbeOutcome


# One fixed moment for everything that has an age: 2025-11-24T12:00:00Z.
NOW = 1_763_985_600.0
NOW_US = int(NOW) * 1_000_000

# One fixed moment on the monotonic clock.
UPTIME = 5_000.0

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

_ID = "client-1"


def intake(accepted: int, **dead_letters: int) -> IntakeStatistics:
    """Return an account's intake, with dead letters by reason."""
    one = IntakeStatistics(accepted=accepted, previews=5)
    one.dead_letters |= {DeadLetterReason(key): n for key, n in dead_letters.items()}
    one.preview_dead_letters[DeadLetterReason.INVALID_PREVIEW] = 1
    one.preview_dead_letters[DeadLetterReason.TOO_LARGE] = 2
    one.normalized[Change.MISSING_FIELD] = 2
    return one


def _session() -> SessionStatistics:
    return SessionStatistics(
        _ID,
        State.SUBSCRIBED,
        frames=12,
        events=10,
        other_events=1,
        connects=Counter(subscribed=1),
        probes=Counter({ProbeOutcome.ACKNOWLEDGED: 3}),
        last_frame_at_us=NOW_US - 1_500_000,
    )


def _outbox() -> OutboxStatistics:
    # Thirteen records came, three are in the buffer; of two topics' rows one was
    # refused.
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


def _durations() -> Durations:
    durations = Durations([0.005, 0.1, 1])
    for seconds, times in {0.001: 4, 0.05: 3, 0.5: 2, 2.0: 1}.items():
        durations.observe(seconds, times)
    return durations


def finding(
    verdict: Verdict = Verdict.OK, what: str = "partitions", *facts: str
) -> TopicFinding:
    """Return a finding about the topic `jobs`; found, needed and remedy last."""
    found, needed, remedy = facts or ("6", "1 or more", "")
    return TopicFinding("jobs", what, found, needed, verdict, remedy)


def _relay() -> RelayStatistics:
    return RelayStatistics(
        published=Counter({"jobs": 6, "jobs.dlq": 1}),
        resumed=Counter(jobs=2),
        dead_letters=3,
        producer_recycles=1,
        partitions=6,
        publish_duration=_durations(),
        delivery_durations={"jobs": _durations()},
        connected=True,
        ever_connected=True,
        last_beat=UPTIME - 2,
        lags=[0.03],
        topic_findings={"jobs": [finding(), finding(what="cleanup.policy")]},
    )


def _loop() -> LoopHeartbeat:
    # Late once, by 20 ms.
    loop = LoopHeartbeat()
    loop.tasks, loop.last_beat = 17, UPTIME - 0.5
    loop.lags.append(0.02)
    return loop


def _limiter() -> Limiter:
    # A Basic account's, after five calls.
    limiter = Limiter(lambda: UPTIME, reserve_percent=25, now_us=lambda: NOW_US)
    for _ in range(5):
        limiter.begin(Purpose.GAP)
        limiter.end(Limits())
    return limiter


def _gaps() -> GapStatistics:
    gaps = GapStatistics([_ID])
    gaps.gaps[_ID, "overflow"] = 2
    gaps.healed |= {(_ID, "status-endpoint"): 4, (_ID, "webhook"): 3}
    gaps.open, gaps.seconds = {_ID: 1}, {_ID: 7.25}
    gaps.resolved, gaps.unknown = {_ID: 1}, {_ID: 1}
    return gaps


def _reconciliation() -> ReconciliationStatistics:
    asked = ReconciliationStatistics([_ID])
    asked.requests |= {(_ID, "answered"): 4, (_ID, "not_found"): 1}
    asked.waiting[_ID, "gap"] = 2
    asked.healed, asked.superseded, asked.unknown = {_ID: 3}, {_ID: 1}, {_ID: 1}
    return asked


def _webhooks() -> WebhookStatistics:
    webhooks = WebhookStatistics([_ID], {"written": 1, "superseded": 1})
    webhooks.deliveries |= {(_ID, Outcome.TAKEN): 2, (_ID, Outcome.WRONG_SIGNATURE): 1}
    webhooks.events |= {(_ID, Event.PROCESSING): 1, (_ID, Event.COMPLETED): 1}
    webhooks.unknown_account = 1
    webhooks.last_terminal_at_us[_ID] = NOW_US - 60_000_000
    return webhooks


@dataclass
class Statistics:
    """All statistics; later changes are read."""

    sessions: list[SessionStatistics] = field(default_factory=lambda: [_session()])
    intakes: list[IntakeStatistics] = field(
        default_factory=lambda: [intake(9, not_json=1)]
    )
    outbox: OutboxStatistics = field(default_factory=_outbox)
    relay: RelayStatistics = field(default_factory=_relay)
    loop: LoopHeartbeat = field(default_factory=_loop)
    limiter: Limiter = field(default_factory=_limiter)
    webhooks: WebhookStatistics = field(default_factory=_webhooks)

    def sources(self, **changes: Any) -> Sources:
        """Return them, or others in their place, for metrics and health."""
        usual: dict[str, Any] = {
            "sessions": self.sessions,
            "outbox": self.outbox,
            "relay": self.relay,
            "loop": self.loop,
            "limiters": {_ID: self.limiter},
            "webhooks": self.webhooks,
            "others": [
                *self.intakes,
                _gaps(),
                _reconciliation(),
                FinishedJobs(lambda _: 9, {_ID: _ID}),
            ],
        }
        return Sources(**usual | changes)


def parsed(text: str) -> dict[str, Metric]:
    """Parse a text in which each family must occur once, by its name."""
    found: Iterable[Metric] = text_string_to_metric_families(  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        text
    )
    return {family.name: family for family in found}


def families(statistics: Statistics) -> dict[str, Metric]:
    """Return the metrics of statistics as a client of OpenMetrics reads them."""
    write, content_type = Metrics(statistics.sources()).read(OPENMETRICS)
    assert content_type.startswith(OPENMETRICS)
    return parsed(write().decode())
