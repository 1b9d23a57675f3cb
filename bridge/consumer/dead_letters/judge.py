"""
What may be replayed of the dead letters, as far as their headers tell.

Owns the outcomes that a letter can have, in words, and which reasons keep one where
it is. Whether the payload can be read now is for those to say who read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from bridge.consumer.dead_letters.letter import NO_REASON, Letter
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names


__all__ = ["Outcome", "outcome_unread"]


class Outcome(StrEnum):
    """What became of a dead letter in a replay; a closed vocabulary."""

    REPLAYED = "replayed"
    ALREADY_REPLAYED = "already_replayed"
    OVERTAKEN = "overtaken"
    STILL_INVALID = "still_invalid"
    AFTER_TERMINAL = "after_terminal"
    INVALID_PREVIEW = "invalid_preview"
    TRUNCATED = "truncated"
    REFUSED_BY_BROKER = "refused_by_broker"
    OTHER_TOPIC = "other_topic"
    UNKNOWN_REASON = "unknown_reason"
    FOREIGN = "foreign"
    NOT_CHOSEN = "not_chosen"

    @property
    def meaning(self) -> str:
        """What it means, in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.REPLAYED: "valid now, and went to the topic of jobs",
    Outcome.ALREADY_REPLAYED: "an earlier replay took it",
    Outcome.OVERTAKEN: "valid now, but its job has ended or gone on meanwhile",
    Outcome.STILL_INVALID: "this version can't read it either",
    Outcome.AFTER_TERMINAL: "would come after its job's last record",
    Outcome.INVALID_PREVIEW: "a preview, no job event",
    Outcome.TRUNCATED: "only its first part was kept",
    Outcome.REFUSED_BY_BROKER: "tried again with --reason refused_by_broker",
    Outcome.OTHER_TOPIC: "was on its way to another topic",
    Outcome.UNKNOWN_REASON: "a newer bridge wrote it",
    Outcome.FOREIGN: "no bridge wrote it",
    Outcome.NOT_CHOSEN: "left out by --reason or --since",
}


# By reason; another one is a newer bridge's, of which isn't known what keeps it back.
_STAYS: Mapping[str, Outcome | None] = {
    **dict.fromkeys(DeadLetterReason),
    DeadLetterReason.AFTER_TERMINAL: Outcome.AFTER_TERMINAL,
    DeadLetterReason.INVALID_PREVIEW: Outcome.INVALID_PREVIEW,
}


def outcome_unread(letter: Letter, topic: str, reason: str | None) -> Outcome | None:
    """
    Judge a letter by its headers.

    Args:
        letter: It.
        topic: Where events of jobs go.
        reason: The only reason that is wanted; None for all that can be replayed
            without being asked for.

    Returns:
        Why it stays where it is; None if it depends on its payload.
    """
    if reason is not None and letter.reason != reason:
        return Outcome.NOT_CHOSEN
    # The account and the identity: without them it can't be said whose it is, nor
    # whether it went before.
    known = letter.text(names.CE_SOURCE) and letter.ce_id
    if letter.reason == NO_REASON or not known:
        return Outcome.FOREIGN
    stays = _STAYS.get(letter.reason, Outcome.UNKNOWN_REASON)
    if stays is not None:
        return stays
    if letter.is_truncated:
        return Outcome.TRUNCATED
    if letter.reason == DeadLetterReason.REFUSED_BY_BROKER:
        return _outcome_refused(letter, topic, reason)
    return None


def _outcome_refused(letter: Letter, topic: str, reason: str | None) -> Outcome | None:
    if letter.text(names.BRIDGE_REFUSED_TOPIC) != topic:
        return Outcome.OTHER_TOPIC
    # Only the broker knows whether it would take it now, and what it refuses again
    # is a new letter each time: somebody must have changed something.
    return None if reason is not None else Outcome.REFUSED_BY_BROKER
