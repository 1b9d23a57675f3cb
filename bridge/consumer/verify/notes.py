"""
What a report says beside its findings: what was not checked, what only looks odd.

Sentences alone; nothing here changes a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.consumer.verify.judge import Judge
from bridge.consumer.verify.report import Claim, LaneReport, PartitionReport


__all__ = ["notes"]

_REPLAY = "replay"


def notes(
    judge: Judge, claims: Sequence[Claim], missing_topic: str | None
) -> list[str]:
    """
    Put the sentences together.

    Args:
        judge: The judge, when all was added.
        claims: What outboxes said.
        missing_topic: The dead-letter topic, if it couldn't be read.
    """
    lanes, partitions = judge.lanes(), judge.partitions()
    found = [
        *_on_ends(partitions, claims),
        *_on_lanes(lanes),
        *_on_keys(partitions, lanes),
    ]
    if missing_topic is not None:
        found.append(
            f"No dead letters were read ({missing_topic}): a record that the broker "
            "refused would look like a hole."
        )
    if not judge.identities_are_whole or judge.unknown_ids:
        found.append("Not every ce_id could be compared with all others.")
    if not judge.lanes_are_whole:
        found.append("There are more outboxes than can be followed; some are left out.")
    return found


def _on_ends(
    partitions: Sequence[PartitionReport], claims: Sequence[Claim]
) -> list[str]:
    found = []
    if not claims:
        found.append(
            "What should come after a lane's last sequence can't be proven from the "
            "topic; --outbox-dir compares it with the outbox."
        )
    if quarantined := sum(len(claim.quarantined) for claim in claims):
        found.append(
            f"{quarantined:,} records lie in the outbox's quarantine: neither the "
            "topic nor the dead letters took them."
        )
    if hidden := sum(one.log_end - one.end for one in partitions):
        found.append(
            f"{hidden:,} offsets lie behind a transaction that was open at the start; "
            "they were not read."
        )
    return found


def _on_lanes(lanes: Sequence[LaneReport]) -> list[str]:
    found = []
    if unproven := sum(one.unread + one.trimmed + one.compacted for one in lanes):
        found.append(
            f"{unproven:,} sequences lie before the start, or were trimmed or "
            "compacted away as far as offsets show: nothing is claimed of them."
        )
    if any(one.resent for one in lanes):
        found.append(
            "Records marked `resent` were sent again after Kafka had lost them; where "
            "it had not lost all of them, they are there twice, with the same ce_id."
        )
    return found


def _on_keys(
    partitions: Sequence[PartitionReport], lanes: Sequence[LaneReport]
) -> list[str]:
    found = []
    writers = {(one.partition, one.outbox) for one in lanes if one.origin != _REPLAY}
    if len(writers) > len({partition for partition, _ in writers}):
        found.append("Several outboxes write here; order between them isn't claimed.")
    if astray := sum(one.astray for one in partitions):
        found.append(
            f"{astray:,} records stand in another partition than their key's: "
            "partitions were added, or their writer chooses otherwise. Such a key may "
            "be in two partitions, which wasn't checked further."
        )
    return found
