"""
What a topic must be like, and what one is found to be like: a table of checks.

Each check is a row of the table in docs/operate/topics.md, too. It looks at facts that
were read before, asks nobody and logs nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from bridge.kafka.requests import TopicFacts
from bridge.kafka.topics import (
    NEEDED,
    LookedUp,
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
    TopicRole.DEAD_LETTERS: "limits.event_bytes",
    TopicRole.GAPS: "a gap's record",
    TopicRole.PREVIEWS: "limits.preview_bytes",
}

_WRONG_POLICY: Final = {
    TopicRole.DEAD_LETTERS: "Of a job only the last dead letter would stay, and those"
    " without a key are refused.",
    TopicRole.GAPS: "The key is the client id: of each account's gaps only the last"
    " would stay.",
    TopicRole.PREVIEWS: "All previews of a job are kept, not its latest alone.",
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
    What was found of one thing that a topic needs, and what to do about it.

    It is `topic`, `partitions`, `replication.factor`, or a topic configuration's name.
    """

    topic: str
    what: str
    found: str
    needed: str
    verdict: Verdict
    remedy: str = ""


class _Topic(msgspec.Struct, frozen=True):
    """A topic that is there, what it is for, and the largest batch of events."""

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

    def grant(self, operations: Sequence[str]) -> str:
        """Give the command that grants the user permissions."""
        user = self.settings.sasl_username or "<the bridge's user>"
        words = ["kafka-acls.sh", "--bootstrap-server", self.settings.bootstrap_servers]
        words += ["--add", "--allow-principal", f"User:{user}"]
        for operation in operations:
            words += ["--operation", operation]
        words += ["--topic", self.facts.name]
        return f"Grant it: {shlex.join(words)}"

    def find(
        self,
        what: str,
        found: object,
        needed: str,
        remedy: str = "",
        verdict: Verdict = Verdict.FINE,
    ) -> TopicFinding:
        """Say what was found, that all is well if nothing else is said."""
        return TopicFinding(self.facts.name, what, str(found), needed, verdict, remedy)

    def warn(
        self, what: str, found: object, needed: str, why: str, value: object
    ) -> TopicFinding:
        """Say why something is dangerous, and the command that sets it right."""
        remedy = f"{why} {self.set(what, value)}"
        return self.find(what, found, needed, remedy, Verdict.DANGEROUS)


def report(
    looked_up: LookedUp, all_needs: Mapping[str, TopicNeeds], settings: KafkaSettings
) -> dict[str, tuple[TopicFinding, ...]]:
    """Compare topics with what is wanted of them; by topic, in the needs' order."""
    facts = looked_up.facts
    largest = max(
        (
            facts[name].max_message_bytes
            for name, needs in all_needs.items()
            if needs.role is TopicRole.EVENTS and name in facts
        ),
        default=0,
    )
    found: dict[str, tuple[TopicFinding, ...]] = {}
    for name, needs in all_needs.items():
        if name in facts:
            found[name] = tuple(_judge(_Topic(facts[name], needs, largest, settings)))
            continue
        if name in looked_up.problems:
            told, needed, remedy = str(looked_up.problems[name]), "can be used", ""
        elif name in looked_up.missing:
            told, needed = "not there, or this user may not see it", "there"
            command = creation_command(creation(name, all_needs, settings), settings)
            remedy = (
                "Set kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true), or:"
                f" {command}"
            )
        else:
            continue
        found[name] = (
            TopicFinding(name, "topic", told, needed, Verdict.MISSING, remedy),
        )
    return found


def _judge(topic: _Topic) -> Iterator[TopicFinding]:
    """Apply the checks to a topic that is there."""
    facts = topic.facts
    yield topic.find("topic", "there", "there")
    # Brokers that don't tell refuse when it comes to it.
    lacks = facts.lacks(NEEDED)
    if lacks is not None:
        yield _rights(topic, lacks)
    yield topic.find("partitions", facts.partitions, "1 or more")
    yield _replicas(topic)
    if facts.configs is None:
        yield topic.find(
            "configuration",
            "hidden from this user",
            "the right DescribeConfigs",
            "Grant DescribeConfigs, so that the bridge can see what is dangerous; until"
            f" then Kafka's defaults are assumed. {topic.grant(['DescribeConfigs'])}",
            Verdict.UNKNOWN,
        )
        return
    for what, check in _CHECKS.items():
        if what in facts.configs:
            yield check(topic, what, facts.configs[what])
        else:
            # A broker that isn't Apache's may not know it.
            yield topic.find(what, "not told", "told", verdict=Verdict.UNKNOWN)
    if facts.configs.get("message.timestamp.type") == "CreateTime":
        # Otherwise the broker looks at no record's own time.
        yield from _ages(topic, facts.configs)


def _rights(topic: _Topic, lacks: tuple[str, ...]) -> TopicFinding:
    needed = ", ".join(NEEDED.values())
    if not lacks:
        return topic.find("permissions", needed, needed)
    found = f"no {' and no '.join(lacks)}"
    return topic.find("permissions", found, needed, topic.grant(lacks), Verdict.MISSING)


def _replicas(topic: _Topic) -> TopicFinding:
    what, found, needed = "replication.factor", topic.facts.replicas, "2 or more"
    if found >= _LEAST_REPLICAS:
        return topic.find(what, found, needed)
    why = (
        "With the one broker that has a partition, all that was acknowledged can be"
        " lost. Give it more replicas with kafka-reassign-partitions.sh, or recreate"
        " it."
    )
    return topic.find(what, found, needed, why, Verdict.DANGEROUS)


def _min_insync(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, replicas = int(found), topic.facts.replicas
    least = min(_LEAST_REPLICAS, replicas)
    told, needed = f"{value} of {replicas}", f"{least} or more"
    if value > replicas:
        why = (
            "No more than there are replicas can ever be in sync: older brokers"
            " refuse every write."
        )
    elif value < _LEAST_REPLICAS <= replicas:
        why = (
            "A record counts as written when one broker has it, and is lost with"
            " that one."
        )
    else:
        return topic.find(what, told, needed)
    return topic.warn(what, told, needed, why, least)


def _max_message_bytes(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, needs, largest = topic.facts.max_message_bytes, topic.needs, topic.largest
    needed = f"{needs.batch_bytes} or more"
    if value < needs.batch_bytes:
        remedy = (
            f"The largest value may have {needs.value_bytes} bytes"
            f" ({_LIMITS[needs.role]}): lower that, or:"
            f" {topic.set(what, needs.batch_bytes)}"
        )
        return topic.find(what, found, needed, remedy, Verdict.MISSING)
    if needs.role is TopicRole.DEAD_LETTERS and value < largest:
        needed = f"{largest} or more, as the topic of events"
        why = (
            "Of an event that the other topic would take only the first part"
            " may be kept here."
        )
        return topic.warn(what, found, needed, why, largest)
    return topic.find(what, found, needed)


def _cleanup(topic: _Topic, what: str, found: str) -> TopicFinding:
    role, is_compacted = topic.needs.role, topic.is_under("compact")
    if role is TopicRole.EVENTS:
        remark = (
            "Of a job only the last record stays: bridge verify can't tell what"
            " was compacted away from what was never there."
        )
        remark = remark if is_compacted else ""
        return topic.find(what, found, "delete or compact", remark)
    is_right = is_compacted is (role is TopicRole.PREVIEWS)
    needed = "compact,delete" if role is TopicRole.PREVIEWS else "delete"
    if not is_right:
        return topic.warn(what, found, needed, _WRONG_POLICY[role], needed)
    remark = ""
    if is_compacted and not topic.is_under("delete"):
        remark = (
            "Each job has a key of its own: what is only compacted grows for ever."
            f" {topic.set(what, needed)}"
        )
    return topic.find(what, found, needed, remark)


def _retention(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, needed = int(found), f"{_LEAST_RETENTION_MS} or more, or -1"
    if not topic.is_under("delete"):
        return topic.find(what, "of no account", needed)
    if value == -1 or value >= _LEAST_RETENTION_MS:
        return topic.find(what, found, needed)
    why = (
        "A record's time is when it was read: after an outage that is longer than"
        " this, what waited is deleted as soon as it is written."
    )
    return topic.warn(what, found, needed, why, _LEAST_RETENTION_MS)


def _only(needed: str, why: str) -> Callable[[_Topic, str, str], TopicFinding]:
    """Make the check for a configuration that may have one value alone."""

    def check(topic: _Topic, what: str, found: str) -> TopicFinding:
        if found == needed:
            return topic.find(what, found, needed)
        return topic.warn(what, found, needed, why, needed)

    return check


def _compression(topic: _Topic, what: str, found: str) -> TopicFinding:
    ours, theirs = topic.settings.compression, _CODECS.get(found, found)
    remark = (
        "The broker compresses each batch again. Set kafka.compression"
        f" (BRIDGE_KAFKA_COMPRESSION={theirs}) to spare it that."
    )
    is_kept = found == "producer" or theirs == ours
    needed = f"producer or {'uncompressed' if ours == 'none' else ours}"
    return topic.find(what, found, needed, "" if is_kept else remark)


def _ages(topic: _Topic, configs: Mapping[str, str]) -> Iterator[TopicFinding]:
    why = (
        "What waited for longer while Kafka was away is refused, and becomes a dead"
        " letter."
    )
    for bound in ("before", "difference"):
        what = f"message.timestamp.{bound}.max.ms"
        value = int(configs.get(what, _LEAST_AGE_MS))
        if value < _LEAST_AGE_MS:
            needed = f"{_LEAST_AGE_MS} or more"
            yield topic.warn(what, value, needed, why, _LEAST_AGE_MS)


_CHECKS: Final[Mapping[str, Callable[[_Topic, str, str], TopicFinding]]] = {
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
