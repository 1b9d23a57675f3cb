"""Records with a bridge's headers, for the verifier alone and for real topics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.consumer.verify import Report, verify
from bridge.outbox.survey import SurveyedOutbox, SurveyedPartition
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kit import writer


OUTBOX = "0b6f4c5e-0000-4000-8000-000000000001"
OTHER = "0b6f4c5e-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Sent:
    """One record to write."""

    sequence: int | None
    outbox: str = OUTBOX
    ce_id: str | None = None
    key: str = "job-1"
    extra: tuple[tuple[str, bytes], ...] = ()
    value: bytes | None = b"{}"
    headers: list[tuple[str, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        """Make the headers."""
        headers = list(self.extra)
        if self.sequence is not None:
            ce_id = self.ce_id or f"{self.outbox[-1] * 16}-{self.sequence}"
            headers += [
                ("ce_id", ce_id.encode()),
                ("bridge_outbox", self.outbox.encode()),
                ("bridge_sequence", b"%d" % self.sequence),
                ("bridge_origin", b"socket"),
            ]
        object.__setattr__(self, "headers", headers)


def rows(*sequences: int, outbox: str = OUTBOX, resent: bool = False) -> list[Sent]:
    """Make records of one outbox, marked as sent again or not."""
    extra = (("bridge_anomaly", b"resent"),) if resent else ()
    return [Sent(number, outbox, extra=extra) for number in sequences]


def marker(topic: str, sequence: int, *, outbox: str = OUTBOX) -> Sent:
    """Make the dead letter of a refused record of partition 0."""
    extra = (
        ("bridge_refused_topic", topic.encode()),
        ("bridge_refused_partition", b"0"),
        ("bridge_refused_sequence", b"%d" % sequence),
    )
    return Sent(sequence, outbox, f"dead-{sequence}", extra=extra)


def surveyed(
    topic: str,
    delivered: int,
    *,
    waiting: int = 0,
    unsendable: Sequence[int] = (),
    outbox: str = OUTBOX,
) -> SurveyedOutbox:
    """Make an outbox's survey, with partition 0 of a topic."""
    partition = SurveyedPartition(topic, 0, delivered, waiting, [*unsendable])
    return SurveyedOutbox(outbox, [partition], 0)


def written(records: Iterable[Sent], partition: int = 0) -> list[writer.Sent]:
    """Make of them what is written in a partition."""
    return [
        writer.Sent(one.value, one.key.encode(), dict(one.headers), 0, partition)
        for one in records
    ]


def write(
    topic: Topic,
    records: Iterable[Sent],
    *,
    name: str | None = None,
    partition: int = 0,
) -> None:
    """Write records in one partition, in their order."""
    of_partition = written(records, partition)
    writer.write(topic.bootstrap_servers, name or topic.name, of_partition)


async def report_on(topic: Topic, **choices: object) -> Report:
    """Verify a topic as the command does."""
    settings = KafkaSettings(bootstrap_servers=topic.bootstrap_servers)
    chosen: dict[str, object] = {"dead_letter_topic": topic.dead_letter, **choices}
    return await verify(settings, topic.name, **chosen)  # type: ignore[arg-type]


def kinds(report: Report) -> list[tuple[str, int | None, int | None, int]]:
    """Give kind, first and last sequence and offset of each issue."""
    return [
        (one.kind.value, one.first_sequence, one.last_sequence, one.offset)
        for one in report.issues
    ]
