"""
The course of a proof: dead letters, the topic, what came late, the verdict.

Owns the order of these. What is wrong with a record is for `judge` to say, what
was not checked for `notes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from bridge.consumer.verify.judge import Judge, Markers
from bridge.consumer.verify.notes import notes
from bridge.consumer.verify.report import Claim, Kind, Report
from bridge.errors import KafkaRefusedError
from bridge.kafka.scan import Extent, Progress, Take, scan
from bridge.settings import KafkaSettings


__all__ = ["prove"]


class _Proof:
    """One proof under way."""

    def __init__(self, topic: str, claims: Sequence[Claim]) -> None:
        self.topic = topic
        self.claims = [claim for claim in claims if claim.topic == topic]
        self.markers = Markers(topic)
        for claim in self.claims:
            self.markers.put_aside(claim.outbox, claim.partition, claim.quarantined)
        self.judge = Judge({}, self.markers)
        self.dead_letters_missing = False

    def begin(self, extents: Mapping[int, Extent], may_be_compacted: bool) -> Take:  # noqa: FBT001
        """Make the judge, when it is known what will be read."""
        self.judge = Judge(extents, self.markers, may_be_compacted=may_be_compacted)
        return self.judge.add

    async def read_markers(self, settings: KafkaSettings, topic: str) -> None:
        """Read which records were refused; a topic that is missing has none."""
        try:
            await scan(
                settings,
                topic,
                lambda _extents, _: lambda _, records, _gone: self.markers.add(records),
            )
        except KafkaRefusedError:
            # Where the cause is another one, the topic itself will tell.
            self.dead_letters_missing = True


async def prove(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    *,
    dead_letter_topic: str,
    since_ms: int | None = None,
    committed_only: bool = True,
    claims: Sequence[Claim] = (),
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Report:
    """
    Read a topic to the ends that it has now, and say what is wrong with it.

    Args:
        settings: How to reach the brokers.
        topic: What to prove.
        dead_letter_topic: Where markers of refused records stand.
        since_ms: Where to start, milliseconds since the epoch; None starts at the
            beginning.
        committed_only: Whether records of aborted transactions are left out.
        claims: What outboxes say; read before this is called, so that what they
            hold for delivered is on the topic.
        on_progress: Is told how far the reading of the topic has come.

    Returns:
        Findings and counts.

    Raises:
        KafkaError: The topic can't be read; the subclass says why.
        ConfigError: A certificate or key can't be used.
    """
    began = time.monotonic()
    proof = _Proof(topic, claims)
    has_dead_letters = dead_letter_topic != topic
    if has_dead_letters:
        await proof.read_markers(settings, dead_letter_topic)
    await scan(
        settings,
        topic,
        proof.begin,
        since_ms=since_ms,
        committed_only=committed_only,
        on_progress=on_progress,
    )
    judge = proof.judge
    if has_dead_letters and (judge.misses_something or proof.claims):
        # A bridge that runs may have refused records since.
        await proof.read_markers(settings, dead_letter_topic)
    for claim in proof.claims:
        judge.claim(claim.outbox, claim.partition, claim.delivered, claim.waiting)
    judge.conclude()
    missing = dead_letter_topic if proof.dead_letters_missing else None
    return Report(
        topic=topic,
        isolation="read_committed" if committed_only else "read_uncommitted",
        seconds=round(time.monotonic() - began, 3),
        partitions=judge.partitions(),
        lanes=judge.lanes(),
        counts={kind.value: judge.counts[kind] for kind in Kind if judge.counts[kind]},
        findings=judge.findings(),
        notes=notes(judge, proof.claims, missing),
    )
