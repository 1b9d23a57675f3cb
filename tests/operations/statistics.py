"""Statistics as the other rooms keep them: plain attributes, set by a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.errors import DeadLetterReason
from bridge.operations.healing_sources import HealingSources
from bridge.operations.sources import Sources


# One fixed moment for everything that has an age: 2025-11-24T12:00:00Z.
NOW = 1_763_985_600.0
NOW_US = int(NOW) * 1_000_000

# One fixed moment on the monotonic clock.
UPTIME = 5_000.0


@dataclass
class Buckets:
    """A histogram of ten values."""

    bounds: list[float] = field(default_factory=lambda: [0.005, 0.1, 1])
    counts: list[int] = field(default_factory=lambda: [4, 3, 2, 1])
    sum: float = 7.25


@dataclass
class Finding:
    """A fact about a topic that is as it should be."""

    what: str = "partitions"
    found: str = "6"
    needed: str = "1 or more"
    verdict: str = "fine"
    remedy: str = ""


@dataclass
class Session:
    """A session that is subscribed and has just read a frame."""

    client_id: str = "client-1"
    state: str = "subscribed"
    subscribed: bool = True
    frames: int = 12
    events: int = 10
    other_events: int = 1
    unrecognised: int = 0
    connects: dict[str, int] = field(default_factory=lambda: {"subscribed": 1})
    probes: dict[str, int] = field(default_factory=lambda: {"acknowledged": 3})
    last_frame_at_us: int | None = NOW_US - 1_500_000
    last_close_code: int | None = None
    refused_reason: str | None = None


@dataclass
class Intake:
    """An intake that has made one dead letter."""

    origin: str = "socket"
    accepted: int = 9
    dead_letters: dict[DeadLetterReason, int] = field(
        default_factory=lambda: {DeadLetterReason.NOT_JSON: 1}
    )
    normalized: dict[str, int] = field(
        default_factory=lambda: {"missing_field": 2, "preview_moved": 0}
    )
    previews: int = 5
    preview_dead_letters: dict[DeadLetterReason, int] = field(
        default_factory=lambda: {
            DeadLetterReason.INVALID_PREVIEW: 1,
            DeadLetterReason.TOO_LARGE: 2,
        }
    )


@dataclass
class Tally:
    """What became of ten events, of two rows that were there, and of two sent again."""

    dropped: int = 1
    committed: int = 7
    found: int = 2
    resent: int = 2
    published: int = 3
    dead_lettered: int = 3
    quarantined: int = 1
    lost: int = 1
    superseded: int = 1
    waiting: int = 2


@dataclass
class Tallies:
    """The tallies of events from the socket alone."""

    events: Tally = field(default_factory=Tally)

    def read(self) -> dict[tuple[str, str], Tally]:
        """Give them."""
        return {("event", "socket"): self.events}


@dataclass
class Outbox:
    """An outbox with three rows, the oldest of which came two seconds ago."""

    rows: int = 3
    rows_at_start: int = 1
    held: int = 5
    held_at_start: int = 4
    bytes: int = 8192
    oldest_received_at_us: int | None = NOW_US - 2_000_000
    accepted: int = 10
    committed: int = 9
    acknowledged: int = 7
    dropped: dict[str, int] = field(default_factory=lambda: {"overflow": 0})
    dropped_previews: int = 4
    dropped_pictures: int = 2
    anomalies: dict[str, int] = field(
        default_factory=lambda: {"duplicate": 3, "regression": 1}
    )
    late: int = 2
    ended_jobs: int = 50
    forgotten_jobs: int = 6
    forgotten_ends: int = 8
    quarantined: int = 0
    full: bool = False
    tallies: Tallies = field(default_factory=Tallies)
    last_beat: float | None = UPTIME - 1


@dataclass
class Relay:
    """A relay that is connected and has published to two topics."""

    published: dict[str, int] = field(
        default_factory=lambda: {"jobs": 6, "jobs.dlq": 1}
    )
    resumed: dict[str, int] = field(default_factory=lambda: {"jobs": 2})
    refused: dict[str, int] = field(default_factory=lambda: {"jobs": 3})
    dead_letters: int = 3
    resent: dict[str, int] = field(default_factory=lambda: {"jobs": 5})
    producer_recycles: int = 1
    publish_duration: Buckets = field(default_factory=Buckets)
    delivery_durations: dict[str, Buckets] = field(
        default_factory=lambda: {"jobs": Buckets()}
    )
    topic_findings: dict[str, list[Finding]] = field(
        default_factory=lambda: {"jobs": [Finding(), Finding("cleanup.policy")]}
    )
    connected: bool = True
    ever_connected: bool = True
    last_error: str | None = None
    lanes: int = 6
    last_beat: float | None = UPTIME - 2
    lag_seconds: float = 0.03


@dataclass
class Gaps:
    """Two gaps of one account: one is still open, one left a job unknown."""

    gaps: dict[tuple[str, str], int] = field(
        default_factory=lambda: {("client-1", "overflow"): 2, ("client-1", "deaf"): 0}
    )
    open: dict[str, int] = field(default_factory=lambda: {"client-1": 1})
    seconds: dict[str, float] = field(default_factory=lambda: {"client-1": 7.25})
    settled: dict[str, int] = field(default_factory=lambda: {"client-1": 1})
    healed: dict[tuple[str, str], int] = field(
        default_factory=lambda: {
            ("client-1", "status-endpoint"): 4,
            ("client-1", "webhook"): 3,
        }
    )
    unknown: dict[str, int] = field(default_factory=lambda: {"client-1": 1})


@dataclass
class Loop:
    """A loop that was late once, by 20 ms."""

    lag_seconds: float = 0.02
    tasks: int = 17
    last_beat: float | None = UPTIME - 0.5


@dataclass
class Reconciliation:
    """An endpoint that answered once, and once didn't know the job."""

    requests: dict[tuple[str, str], int] = field(
        default_factory=lambda: {
            ("client-1", "answered"): 4,
            ("client-1", "not_found"): 1,
        }
    )
    healed: dict[str, int] = field(default_factory=lambda: {"client-1": 3})
    superseded: dict[str, int] = field(default_factory=lambda: {"client-1": 1})
    unknown: dict[str, int] = field(default_factory=lambda: {"client-1": 1})
    waiting: dict[tuple[str, str], int] = field(
        default_factory=lambda: {("client-1", "gap"): 2, ("client-1", "silent"): 0}
    )


@dataclass
class Budget:
    """A Basic account's, after five calls."""

    remaining_minute: int | None = 32
    remaining_day: int | None = 145
    is_backing_off: bool = False


@dataclass
class Webhooks:
    """A job's beginning and its end were taken, and a stranger was refused."""

    deliveries: dict[tuple[str, str], int] = field(
        default_factory=lambda: {
            ("client-1", "taken"): 2,
            ("client-1", "wrong_signature"): 1,
        }
    )
    events: dict[tuple[str, str], int] = field(
        default_factory=lambda: {
            ("client-1", "job.processing"): 1,
            ("client-1", "job.completed"): 1,
        }
    )
    strangers: int = 1
    last_terminal_at_us: dict[str, int | None] = field(
        default_factory=lambda: {"client-1": NOW_US - 60_000_000}
    )
    released: dict[str, int] = field(
        default_factory=lambda: {"written": 1, "superseded": 1}
    )


@dataclass
class Statistics:
    """Everything that a healthy bridge counts."""

    sessions: list[Session] = field(default_factory=lambda: [Session()])
    intakes: list[Intake] = field(default_factory=lambda: [Intake()])
    outbox: Outbox = field(default_factory=Outbox)
    relay: Relay = field(default_factory=Relay)
    gaps: Gaps = field(default_factory=Gaps)
    loop: Loop = field(default_factory=Loop)
    reconciliation: Reconciliation = field(default_factory=Reconciliation)
    budgets: dict[str, Budget] = field(default_factory=lambda: {"client-1": Budget()})
    webhooks: Webhooks | None = field(default_factory=Webhooks)
    finished: dict[str, int] = field(default_factory=lambda: {"client-1": 9})

    def healing(self) -> HealingSources:
        """Give those of healing alone."""
        return HealingSources(
            self.reconciliation,
            self.budgets,
            self.webhooks,
            self.finished.__getitem__,
            tuple(self.finished),
        )

    def sources(self) -> Sources:
        """Give them to what reads them; later changes are seen."""
        return Sources(
            self.sessions,
            self.intakes,
            self.outbox,
            self.relay,
            self.gaps,
            self.loop,
            self.healing(),
        )
