"""
What each topic is for, and how large its records may be.

That is all the comparison with Kafka's topics has to know of the settings; what a
topic of each role must be like stands in `report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from bridge.settings import Settings


__all__ = ["NO_NEEDS", "READ_CONFIGS", "TopicNeeds", "TopicRole", "topic_needs"]

# What is read of a topic's configuration.
READ_CONFIGS = (
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.before.max.ms",
    # Its name before Kafka 3.6.
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.ms",
    "unclean.leader.election.enable",
)

# What a batch with one record takes beside its value: key and headers below 4 KiB (see
# `refusal`), 61 bytes of the batch's own header, some 100 of framing and a registry's
# prefix of 5. Twice as much, for headers to come.
_ROOM_BYTES = 8192

# A gap's record is JSON with a dozen short fields: below 1 KiB.
_GAP_BYTES = 4096


class TopicRole(StrEnum):
    """What a topic is for."""

    EVENTS = "events"
    DEAD_LETTERS = "dead_letters"
    GAPS = "gaps"
    PREVIEWS = "previews"


class TopicNeeds(msgspec.Struct, frozen=True):
    """
    What the bridge wants of a topic.

    Attributes:
        role: What it is for.
        value_bytes: The largest value that will be written to it.
    """

    role: TopicRole
    value_bytes: int

    @property
    def batch_bytes(self) -> int:
        """What the topic has to take as one batch: its `max.message.bytes`."""
        return self.value_bytes + _ROOM_BYTES


NO_NEEDS: Mapping[str, TopicNeeds] = MappingProxyType({})


def topic_needs(settings: Settings) -> dict[str, TopicNeeds]:
    """Tell what a bridge with these settings wants of its topics, by name."""
    limits = settings.limits
    needs = {
        settings.topic: TopicNeeds(TopicRole.EVENTS, limits.event_bytes),
        settings.dead_letter_topic: TopicNeeds(
            TopicRole.DEAD_LETTERS, limits.dead_letter_bytes
        ),
        settings.gap_topic: TopicNeeds(TopicRole.GAPS, _GAP_BYTES),
    }
    if settings.previews == "topic":
        needs[settings.preview_topic] = TopicNeeds(
            TopicRole.PREVIEWS, limits.preview_bytes
        )
    return needs
