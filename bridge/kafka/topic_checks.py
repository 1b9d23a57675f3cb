"""
Checks of a topic: what it must be like, and what it is like.

Each check is also a row of the table in docs/operate/topics.md. It compares metadata
that was read before: it sends no request and logs nothing.
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

# A record's timestamp is when it was read. After an outage of a day, records that
# waited are a day old: with less retention the broker deletes them at once.
_LEAST_RETENTION_MS: Final = 86_400_000

# A broker that limits records' ages refuses records that waited for longer in the
# outbox: they become dead letters. A week is longer than any expected outage.
_LEAST_AGE_MS: Final = 7 * 86_400_000

# The minimum that survives the loss of one broker.
_LEAST_REPLICAS: Final = 2

# The setting's name of a codec, by the topic's.
_CODECS: Final = {"uncompressed": "none"}

_LIMITS: Final = {
    TopicRole.EVENTS: "limits.event_bytes",
    TopicRole.DEAD_LETTERS: "limits.event_bytes",
    TopicRole.GAPS: "a gap's record",
    TopicRole.PREVIEWS: "limits.preview_bytes",
}

_WRONG_POLICY: Final = {
    TopicRole.DEAD_LETTERS: "Compaction keeps only the last dead letter of a job, and"
    " refuses dead letters without a key.",
    TopicRole.GAPS: "The key is the client id: compaction keeps only the last gap of"
    " each account.",
    TopicRole.PREVIEWS: "All previews of a job are kept, not only its latest.",
}


class Verdict(StrEnum):
    """
    The result of a check; metrics, health and logs use the same values.

    `error`: the bridge can't do its work; a first start fails.
    `warning`: it works, but a guarantee may not hold.
    `unknown`: the broker doesn't report it to this user (DescribeConfigs).
    """

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNKNOWN = "unknown"


class TopicFinding(msgspec.Struct, frozen=True):
    """
    The result of one check of a topic, and what to do about it.

    `what` is `topic`, `permissions`, `partitions`, `replication.factor`,
    `configuration`, or the name of a topic configuration.
    """

    topic: str
    what: str
    found: str
    needed: str
    verdict: Verdict
    remedy: str = ""


class _Topic(msgspec.Struct, frozen=True):
    """An existing topic, what it is for, and the largest batch of events."""

    facts: TopicFacts
    needs: TopicNeeds
    largest: int
    settings: KafkaSettings

    def is_under(self, policy: str) -> bool:
        """Whether its cleanup policy includes that one."""
        policies = (self.facts.configs or {}).get("cleanup.policy", "delete")
        return policy in policies.split(",")

    def set(self, what: str, value: object) -> str:
        """Give the command that changes a configuration."""
        # The tool expects a value with commas in brackets.
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
        verdict: Verdict = Verdict.OK,
    ) -> TopicFinding:
        """Return a finding: `ok` unless the verdict says otherwise."""
        return TopicFinding(self.facts.name, what, str(found), needed, verdict, remedy)

    def warn(
        self, what: str, found: object, needed: str, why: str, value: object
    ) -> TopicFinding:
        """Return a warning: why, and the command that fixes it."""
        remedy = f"{why} {self.set(what, value)}"
        return self.find(what, found, needed, remedy, Verdict.WARNING)


def report(
    looked_up: LookedUp, all_needs: Mapping[str, TopicNeeds], settings: KafkaSettings
) -> dict[str, tuple[TopicFinding, ...]]:
    """Compare topics with what they need; by topic, in the needs' order."""
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
            state, needed, remedy = str(looked_up.problems[name]), "usable", ""
        elif name in looked_up.missing:
            state, needed = "missing, or hidden from this user", "exists"
            command = creation_command(creation(name, all_needs, settings), settings)
            remedy = (
                "Set kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true), or:"
                f" {command}"
            )
        else:
            continue
        found[name] = (
            TopicFinding(name, "topic", state, needed, Verdict.ERROR, remedy),
        )
    return found


def _judge(topic: _Topic) -> Iterator[TopicFinding]:
    """Apply the checks to an existing topic."""
    facts = topic.facts
    yield topic.find("topic", "exists", "exists")
    # Brokers before 2.8 don't report permissions: they refuse the first request.
    lacks = facts.lacks(NEEDED)
    if lacks is not None:
        yield _permissions(topic, lacks)
    yield topic.find("partitions", facts.partitions, "1 or more")
    yield _replicas(topic)
    if facts.configs is None:
        yield topic.find(
            "configuration",
            "hidden from this user",
            "the permission DescribeConfigs",
            "Grant DescribeConfigs, so that the bridge can check the configuration."
            " Until then it assumes Kafka's defaults."
            f" {topic.grant(['DescribeConfigs'])}",
            Verdict.UNKNOWN,
        )
        return
    for what, check in _CHECKS.items():
        if what in facts.configs:
            yield check(topic, what, facts.configs[what])
        else:
            # A broker that isn't Apache's may not have it.
            yield topic.find(what, "not reported", "reported", verdict=Verdict.UNKNOWN)
    if facts.configs.get("message.timestamp.type") == "CreateTime":
        # Otherwise the broker ignores records' own timestamps.
        yield from _ages(topic, facts.configs)


def _permissions(topic: _Topic, lacks: tuple[str, ...]) -> TopicFinding:
    needed = ", ".join(NEEDED.values())
    if not lacks:
        return topic.find("permissions", needed, needed)
    found = f"no {' and no '.join(lacks)}"
    return topic.find("permissions", found, needed, topic.grant(lacks), Verdict.ERROR)


def _replicas(topic: _Topic) -> TopicFinding:
    what, found, needed = "replication.factor", topic.facts.replicas, "2 or more"
    if found >= _LEAST_REPLICAS:
        return topic.find(what, found, needed)
    why = (
        "If the only broker of a partition is lost, so are its acknowledged records."
        " Add replicas with kafka-reassign-partitions.sh, or recreate the topic."
    )
    return topic.find(what, found, needed, why, Verdict.WARNING)


def _min_insync(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, replicas = int(found), topic.facts.replicas
    least = min(_LEAST_REPLICAS, replicas)
    state, needed = f"{value} of {replicas}", f"{least} or more"
    if value > replicas:
        why = (
            "There are fewer replicas than must be in sync: older brokers refuse every"
            " write."
        )
    elif value < _LEAST_REPLICAS <= replicas:
        why = (
            "A record is acknowledged when one broker has it, and is lost with that"
            " broker."
        )
    else:
        return topic.find(what, state, needed)
    return topic.warn(what, state, needed, why, least)


def _max_message_bytes(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, needs, largest = topic.facts.max_message_bytes, topic.needs, topic.largest
    needed = f"{needs.batch_bytes} or more"
    if value < needs.batch_bytes:
        remedy = (
            f"The largest value may have {needs.value_bytes} bytes"
            f" ({_LIMITS[needs.role]}): lower that limit, or:"
            f" {topic.set(what, needs.batch_bytes)}"
        )
        return topic.find(what, found, needed, remedy, Verdict.ERROR)
    if needs.role is TopicRole.DEAD_LETTERS and value < largest:
        needed = f"{largest} or more, as the topic of events"
        why = (
            "A dead letter may be truncated, though the topic of events would accept"
            " the whole event."
        )
        return topic.warn(what, found, needed, why, largest)
    return topic.find(what, found, needed)


def _cleanup(topic: _Topic, what: str, found: str) -> TopicFinding:
    role, is_compacted = topic.needs.role, topic.is_under("compact")
    if role is TopicRole.EVENTS:
        remark = (
            "Compaction keeps only the last record of a job: bridge verify can't"
            " distinguish compacted records from lost ones."
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
            "Each job has its own key: a topic that is only compacted grows forever."
            f" {topic.set(what, needed)}"
        )
    return topic.find(what, found, needed, remark)


def _retention(topic: _Topic, what: str, found: str) -> TopicFinding:
    value, needed = int(found), f"{_LEAST_RETENTION_MS} or more, or -1"
    if not topic.is_under("delete"):
        return topic.find(what, "not used", needed)
    if value == -1 or value >= _LEAST_RETENTION_MS:
        return topic.find(what, found, needed)
    why = (
        "A record's timestamp is when it was read: after a longer outage, the broker"
        " deletes records that waited as soon as they are written."
    )
    return topic.warn(what, found, needed, why, _LEAST_RETENTION_MS)


def _only(needed: str, why: str) -> Callable[[_Topic, str, str], TopicFinding]:
    """Return the check for a configuration that must have one value."""

    def check(topic: _Topic, what: str, found: str) -> TopicFinding:
        if found == needed:
            return topic.find(what, found, needed)
        return topic.warn(what, found, needed, why, needed)

    return check


def _compression(topic: _Topic, what: str, found: str) -> TopicFinding:
    ours, theirs = topic.settings.compression, _CODECS.get(found, found)
    remark = (
        "The broker compresses each batch again. Set kafka.compression"
        f" (BRIDGE_KAFKA_COMPRESSION={theirs}) to avoid that."
    )
    is_kept = found == "producer" or theirs == ours
    needed = f"producer or {'uncompressed' if ours == 'none' else ours}"
    return topic.find(what, found, needed, "" if is_kept else remark)


def _ages(topic: _Topic, configs: Mapping[str, str]) -> Iterator[TopicFinding]:
    why = (
        "Records that waited for longer while Kafka was unavailable are refused, and"
        " become dead letters."
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
        "A record's timestamp is when it was written: after an outage that is hours"
        " after it was read.",
    ),
    "unclean.leader.election.enable": _only(
        "false",
        "A broker that has fallen behind may become leader. Records that it doesn't"
        " have are lost.",
    ),
    "compression.type": _compression,
}
