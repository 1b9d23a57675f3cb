"""
One line of the table that compares topics with what the bridge needs.

The vocabulary is closed: metrics, health and logs use the same words.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


__all__ = ["TopicFinding", "Verdict"]


class Verdict(StrEnum):
    """
    What a finding means.

    `missing`: the bridge can't do its work; a first start ends with it.
    `dangerous`: it works, and something that it promises may not hold.
    `unknown`: Kafka doesn't let this user see it (DescribeConfigs).
    """

    FINE = "fine"
    DANGEROUS = "dangerous"
    MISSING = "missing"
    UNKNOWN = "unknown"


class TopicFinding(msgspec.Struct, frozen=True):
    """
    What was found of one thing that a topic needs.

    Attributes:
        topic: The topic.
        what: What was looked at: `topic`, `partitions`, `replication.factor`, or the
            name of a topic configuration.
        found: What Kafka has.
        needed: What the bridge needs.
        verdict: What that means.
        remedy: What to do about it, a sentence or two; empty where there is nothing.
    """

    topic: str
    what: str
    found: str
    needed: str
    verdict: Verdict
    remedy: str = ""
