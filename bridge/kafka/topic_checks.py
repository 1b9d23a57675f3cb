"""
What a topic must be like, and what one is found to be like: a table of checks.

Each check is a row of the table in docs/topics.md, too. It looks at facts that were
read before, asks nobody and logs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from bridge.kafka.topics import (
    NEEDED,
    LookedUp,
    TopicFacts,
    TopicNeeds,
    TopicRole,
    creation,
    creation_command,
)
from bridge.settings import KafkaSettings


__all__ = ["TopicFinding", "Verdict", "report"]

# Records have the time at which they were read. After an outage of a day those that
# waited are a day old: with less retention they would go as soon as they are written.
_LEAST_RETENTION_MS: Final = 86_400_000

# A broker with a bound on records' ages refuses what waited for longer in the outbox:
# all of it would become dead letters. A week is more than any outage that is borne.
_LEAST_AGE_MS: Final = 7 * 86_400_000

# The least that survives one broker.
_LEAST_REPLICAS: Final = 2

# Codecs by the topic's word for them.
_CODECS: Final = {"uncompressed": "none"}

_LIMITS: Final = {
    TopicRole.EVENTS: "limits.event_bytes",
    TopicRole.DEAD_LETTERS: "limits.dead_letter_bytes",
    TopicRole.GAPS: "a gap's record",
    TopicRole.PREVIEWS: "limits.preview_bytes",
}

_COMPACTED: Final = {
    TopicRole.DEAD_LETTERS: "Of a job only the last dead letter would stay, and those"
    " without a key are refused.",
    TopicRole.GAPS: "The key is the client id: of each account's gaps only the last"
    " would stay.",
}


class Verdict(StrEnum):
    """
    What a finding means; metrics, health and logs use the same words.

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


class _Topic(msgspec.Struct, frozen=True):
    """
    One topic that is there, being judged.

    Attributes:
        facts: What it is like.
        needs: What it is for.
        largest: The largest batch that a topic of events takes.
        settings: Kafka's.
    """

    facts: TopicFacts
    needs: TopicNeeds
    largest: int
    settings: KafkaSettings

    def is_under(self, policy: str) -> bool:
        """Whether its cleanup policy is that one, among others."""
        policies = (self.facts.configs or {}).get("cleanup.policy", "delete")
        return policy in policies.split(",")

    def set(self, what: str, value: object) -> str:
        """Give the command that changes a configuration."""
        # The tool takes a value with commas in brackets.
        config = f"'{what}=[{value}]'" if "," in str(value) else f"{what}={value}"
        return (
            f"kafka-configs.sh --bootstrap-server {self.settings.bootstrap_servers}"
            f" --alter --entity-type topics --entity-name {self.facts.name}"
            f" --add-config {config}"
        )


class _Judged(msgspec.Struct, frozen=True):
    """A finding without its topic and what was looked at; fine if nothing is said."""

    found: str
    needed: str
    remedy: str = ""
    verdict: Verdict = Verdict.FINE


def _dangerous(found: str, needed: str, why: str, command: str = "") -> _Judged:
    return _Judged(found, needed, f"{why} {command}".strip(), Verdict.DANGEROUS)


def report(
    looked_up: LookedUp, all_needs: Mapping[str, TopicNeeds], settings: KafkaSettings
) -> dict[str, tuple[TopicFinding, ...]]:
    """
    Compare topics with what the bridge wants of them.

    Args:
        looked_up: What is known of them.
        all_needs: What is wanted; others aren't judged.
        settings: How to reach Kafka, and what new topics are like.

    Returns:
        The findings by topic, in the order of the needs.
    """
    facts = looked_up.facts
    largest = max(
        (
            facts[name].max_message_bytes
            for name, needs in all_needs.items()
            if needs.role is TopicRole.EVENTS and name in facts
        ),
        default=0,
    )
    rows: dict[str, Iterator[tuple[str, _Judged]]] = {}
    for name, needs in all_needs.items():
        if name in facts:
            rows[name] = _judge(_Topic(facts[name], needs, largest, settings))
        elif name in looked_up.problems:
            found = str(looked_up.problems[name])
            absent = _Judged(found, "can be used", "", Verdict.MISSING)
            rows[name] = iter([("topic", absent)])
        elif name in looked_up.missing:
            command = creation_command(creation(name, all_needs, settings), settings)
            absent = _Judged(
                "not there, or this user may not see it",
                "there",
                "Set kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true), or:"
                f" {command}",
                Verdict.MISSING,
            )
            rows[name] = iter([("topic", absent)])
    return {
        name: tuple(
            TopicFinding(name, what, one.found, one.needed, one.verdict, one.remedy)
            for what, one in judged
        )
        for name, judged in rows.items()
    }


def _judge(topic: _Topic) -> Iterator[tuple[str, _Judged]]:
    """Apply the checks to a topic that is there."""
    facts = topic.facts
    yield "topic", _Judged("there", "there")
    # Brokers that don't tell refuse when it comes to it.
    if facts.lacks is not None:
        yield "rights", _rights(topic, facts.lacks)
    yield "partitions", _Judged(str(facts.partitions), "1 or more")
    yield "replication.factor", _replicas(facts.replicas)
    if facts.configs is None:
        yield (
            "configuration",
            _Judged(
                "hidden from this user",
                "the right DescribeConfigs",
                "Grant DescribeConfigs on the topic, so that the bridge can tell what"
                " is dangerous; until then Kafka's defaults are assumed.",
                Verdict.UNKNOWN,
            ),
        )
        return
    for what, check in _CHECKS.items():
        if what in facts.configs:
            yield what, check(topic, what, facts.configs[what])
        else:
            # A broker that isn't Apache's may not know it.
            yield what, _Judged("not told", "told", "", Verdict.UNKNOWN)
    if facts.configs.get("message.timestamp.type") == "CreateTime":
        # Otherwise the broker looks at no record's own time.
        yield from _ages(topic, facts.configs)


def _rights(topic: _Topic, lacks: tuple[str, ...]) -> _Judged:
    needed = ", ".join(NEEDED.values())
    if not lacks:
        return _Judged(needed, needed)
    return _Judged(
        ", ".join(name for name in NEEDED.values() if name not in lacks),
        needed,
        f"Grant the user {' and '.join(lacks)} on the topic {topic.facts.name}.",
        Verdict.MISSING,
    )


def _replicas(replicas: int) -> _Judged:
    needed = "2 or more"
    if replicas >= _LEAST_REPLICAS:
        return _Judged(str(replicas), needed)
    return _dangerous(
        str(replicas),
        needed,
        "With the one broker that has a partition, all that was acknowledged can be"
        " lost. Give it more replicas with kafka-reassign-partitions.sh, or make"
        " it anew.",
    )


def _min_insync(topic: _Topic, what: str, found: str) -> _Judged:
    value, replicas = int(found), topic.facts.replicas
    least = min(_LEAST_REPLICAS, replicas)
    told, needed = f"{value} of {replicas}", f"{least} or more"
    if value > replicas:
        return _dangerous(
            told,
            needed,
            "No more than there are replicas can ever be in sync: older brokers"
            " refuse every write.",
            topic.set(what, least),
        )
    if value < _LEAST_REPLICAS <= replicas:
        return _dangerous(
            told,
            needed,
            "A record counts as written when one broker has it, and is lost with"
            " that one.",
            topic.set(what, least),
        )
    return _Judged(told, needed)


def _max_message_bytes(topic: _Topic, what: str, found: str) -> _Judged:
    value, needs = topic.facts.max_message_bytes, topic.needs
    needed, largest = needs.batch_bytes, topic.largest
    words = f"{needed} or more"
    if value < needed:
        return _Judged(
            found,
            words,
            f"The largest value may have {needs.value_bytes} bytes"
            f" ({_LIMITS[needs.role]}): lower that, or: {topic.set(what, needed)}",
            Verdict.MISSING,
        )
    if needs.role is TopicRole.DEAD_LETTERS and value < largest:
        return _dangerous(
            found,
            f"{largest} or more, as the topic of events",
            "Of an event that the other topic would take only the first part"
            " may be kept here.",
            topic.set(what, largest),
        )
    most = topic.settings.max_batch_bytes
    if value < most:
        remark = f"Batches are kept smaller than kafka.max_batch_bytes ({most})."
        return _Judged(found, words, remark)
    return _Judged(found, words)


def _cleanup(topic: _Topic, what: str, found: str) -> _Judged:
    role, is_compacted = topic.needs.role, topic.is_under("compact")
    if role is TopicRole.EVENTS:
        remark = (
            "Of a job only the last record stays: bridge verify can't tell what"
            " was compacted away from what was never there."
        )
        return _Judged(found, "delete or compact", remark if is_compacted else "")
    if role is not TopicRole.PREVIEWS:
        if not is_compacted:
            return _Judged(found, "delete")
        command = topic.set(what, "delete")
        return _dangerous(found, "delete", _COMPACTED[role], command)
    needed = "compact,delete"
    command = topic.set(what, needed)
    if not is_compacted:
        why = "All previews of a job are kept, not its latest alone."
        return _dangerous(found, needed, why, command)
    if topic.is_under("delete"):
        return _Judged(found, needed)
    why = "Each job has a key of its own: what is only compacted grows for ever."
    return _Judged(found, needed, f"{why} {command}")


def _retention(topic: _Topic, what: str, found: str) -> _Judged:
    value, needed = int(found), f"{_LEAST_RETENTION_MS} or more, or -1"
    if not topic.is_under("delete"):
        return _Judged("of no account", needed)
    if value == -1 or value >= _LEAST_RETENTION_MS:
        return _Judged(found, needed)
    return _dangerous(
        found,
        needed,
        "A record's time is when it was read: after an outage that is longer than"
        " this, what waited is deleted as soon as it is written.",
        topic.set(what, _LEAST_RETENTION_MS),
    )


def _only(needed: str, why: str) -> Callable[[_Topic, str, str], _Judged]:
    """Make the check for a configuration that may have one value alone."""

    def check(topic: _Topic, what: str, found: str) -> _Judged:
        if found == needed:
            return _Judged(found, needed)
        return _dangerous(found, needed, why, topic.set(what, needed))

    return check


def _compression(topic: _Topic, what: str, found: str) -> _Judged:
    del what
    ours, theirs = topic.settings.compression, _CODECS.get(found, found)
    needed = f"producer or {'uncompressed' if ours == 'none' else ours}"
    if found == "producer" or theirs == ours:
        return _Judged(found, needed)
    return _Judged(
        found,
        needed,
        "The broker compresses each batch anew. Set kafka.compression"
        f" (BRIDGE_KAFKA_COMPRESSION={theirs}) to spare it that.",
    )


def _ages(topic: _Topic, configs: Mapping[str, str]) -> Iterator[tuple[str, _Judged]]:
    for what in (
        "message.timestamp.before.max.ms",
        "message.timestamp.difference.max.ms",
    ):
        value = int(configs.get(what, _LEAST_AGE_MS))
        if value < _LEAST_AGE_MS:
            yield (
                what,
                _dangerous(
                    str(value),
                    f"{_LEAST_AGE_MS} or more",
                    "What waited for longer while Kafka was away is refused, and"
                    " becomes a dead letter.",
                    topic.set(what, _LEAST_AGE_MS),
                ),
            )


_CHECKS: Final[Mapping[str, Callable[[_Topic, str, str], _Judged]]] = {
    "min.insync.replicas": _min_insync,
    "max.message.bytes": _max_message_bytes,
    "cleanup.policy": _cleanup,
    "retention.ms": _retention,
    "message.timestamp.type": _only(
        "CreateTime",
        "A record's time would be when it was written, after an outage hours later"
        " than when it was read.",
    ),
    "unclean.leader.election.enable": _only(
        "false",
        "A broker that has fallen behind may become leader, and what it doesn't"
        " have is gone.",
    ),
    "compression.type": _compression,
}
