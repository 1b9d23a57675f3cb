"""
What each topic is for, and how large its records may be.

That is all the comparison with Kafka's topics has to know of the settings; what a
topic of each role must be like stands in `topic_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from bridge.settings import Settings


__all__ = ["NO_NEEDS", "TopicNeeds", "TopicRole", "topic_needs"]

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
