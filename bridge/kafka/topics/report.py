"""
What a topic must be like, and what one is found to be like.

Each check is a function here and a row of the table in docs/topics.md. It looks at
facts that were read before, speaks to nobody and logs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridge.kafka.topics.creation import creation, creation_command
from bridge.kafka.topics.facts import LookedUp, TopicFacts
from bridge.kafka.topics.finding import TopicFinding, Verdict
from bridge.kafka.topics.needs import TopicNeeds, TopicRole
from bridge.kafka.topics.rights import NEEDED
from bridge.settings import KafkaSettings


__all__ = ["report"]

# Records have the time at which they were read. After an outage of a day those that
# waited are a day old: with less retention they would go as soon as they are written.
_LEAST_RETENTION_MS = 86_400_000

# A broker with a bound on records' ages refuses what waited for longer in the outbox:
# all of it would become dead letters. A week is more than any outage that is borne.
_LEAST_AGE_MS = 7 * 86_400_000

# The least that survives one broker.
_LEAST_REPLICAS = 2

# Codecs by the topic's word for them.
_CODECS = {"uncompressed": "none"}


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
    found = {}
    for name, needs in all_needs.items():
        facts = looked_up.facts.get(name)
        if facts is not None:
            topic = _Topic(facts, needs, looked_up.facts, all_needs, settings)
            found[name] = tuple(topic.findings())
        elif name in looked_up.missing or name in looked_up.problems:
            found[name] = (_absent(name, looked_up, all_needs, settings),)
    return found


def _absent(
    name: str,
    looked_up: LookedUp,
    all_needs: Mapping[str, TopicNeeds],
    settings: KafkaSettings,
) -> TopicFinding:
    problem = looked_up.problems.get(name)
    if problem is not None:
        return TopicFinding(
            name, "topic", str(problem), "can be used", Verdict.MISSING, ""
        )
    command = creation_command(creation(name, all_needs, settings), settings)
    return TopicFinding(
        name,
        "topic",
        "not there, or this user may not see it",
        "there",
        Verdict.MISSING,
        f"Set kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true), or: {command}",
    )


class _Topic:
    """One topic that is there, being judged."""

    def __init__(
        self,
        facts: TopicFacts,
        needs: TopicNeeds,
        others: Mapping[str, TopicFacts],
        all_needs: Mapping[str, TopicNeeds],
        settings: KafkaSettings,
    ) -> None:
        self._facts = facts
        self._needs = needs
        self._others = others
        self._all_needs = all_needs
        self._settings = settings
        self._configs = facts.configs or {}

    def findings(self) -> Iterator[TopicFinding]:
        """Judge it."""
        yield self._finding("topic", "there", "there")
        yield from self._rights()
        yield self._finding("partitions", str(self._facts.partitions), "1 or more")
        yield self._replicas()
        if self._facts.configs is None:
            yield self._finding(
                "configuration",
                "hidden from this user",
                "the right DescribeConfigs",
                Verdict.UNKNOWN,
                "Grant DescribeConfigs on the topic, so that the bridge can tell what"
                " is dangerous; until then Kafka's defaults are assumed.",
            )
            return
        checks = {
            "min.insync.replicas": self._min_insync,
            "max.message.bytes": self._max_message_bytes,
            "cleanup.policy": self._cleanup,
            "retention.ms": self._retention,
            "message.timestamp.type": self._timestamps,
            "unclean.leader.election.enable": self._unclean_election,
            "compression.type": self._compression,
        }
        for what, check in checks.items():
            if what in self._configs:
                yield check(what, self._configs[what])
            else:
                # A broker that isn't Apache's may not know it.
                yield self._finding(what, "not told", "told", Verdict.UNKNOWN)
        yield from self._ages()

    def _finding(
        self,
        what: str,
        found: str,
        needed: str,
        verdict: Verdict = Verdict.FINE,
        remedy: str = "",
    ) -> TopicFinding:
        return TopicFinding(self._facts.name, what, found, needed, verdict, remedy)

    def _set(self, config: str) -> str:
        """Give the command that changes a configuration."""
        servers = self._settings.bootstrap_servers
        if "," in config:
            # The tool takes a value with commas in brackets.
            name, _, value = config.partition("=")
            config = f"'{name}=[{value}]'"
        return (
            f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type"
            f" topics --entity-name {self._facts.name} --add-config {config}"
        )

    def _rights(self) -> Iterator[TopicFinding]:
        lacks = self._facts.lacks
        if lacks is None:
            # Older brokers refuse when it comes to it.
            return
        needed = ", ".join(NEEDED.values())
        if not lacks:
            yield self._finding("rights", needed, needed)
            return
        have = [name for name in NEEDED.values() if name not in lacks]
        yield self._finding(
            "rights",
            ", ".join(have),
            needed,
            Verdict.MISSING,
            f"Grant the user {' and '.join(lacks)} on the topic {self._facts.name}.",
        )

    def _replicas(self) -> TopicFinding:
        replicas, needed = self._facts.replicas, "2 or more"
        if replicas >= _LEAST_REPLICAS:
            return self._finding("replication.factor", str(replicas), needed)
        return self._finding(
            "replication.factor",
            str(replicas),
            needed,
            Verdict.DANGEROUS,
            "With the one broker that has a partition, all that was acknowledged can be"
            " lost. Give it more replicas with kafka-reassign-partitions.sh, or make"
            " it anew.",
        )

    def _min_insync(self, what: str, found: str) -> TopicFinding:
        value, replicas = int(found), self._facts.replicas
        least = min(_LEAST_REPLICAS, replicas)
        needed = f"{least} or more"
        if value > replicas:
            return self._finding(
                what,
                f"{value} of {replicas}",
                needed,
                Verdict.DANGEROUS,
                "No more than there are replicas can ever be in sync: older brokers"
                f" refuse every write. {self._set(f'{what}={least}')}",
            )
        if value < _LEAST_REPLICAS <= replicas:
            return self._finding(
                what,
                f"{value} of {replicas}",
                needed,
                Verdict.DANGEROUS,
                "A record counts as written when one broker has it, and is lost with"
                f" that one. {self._set(f'{what}={least}')}",
            )
        return self._finding(what, f"{value} of {replicas}", needed)

    def _max_message_bytes(self, what: str, found: str) -> TopicFinding:
        value = self._facts.max_message_bytes
        needed, role = self._needs.batch_bytes, self._needs.role
        words = f"{needed} or more"
        if value < needed:
            return self._finding(
                what,
                found,
                words,
                Verdict.MISSING,
                f"The largest value may have {self._needs.value_bytes} bytes"
                f" ({_LIMITS[role]}): lower that, or:"
                f" {self._set(f'{what}={needed}')}",
            )
        if role is TopicRole.DEAD_LETTERS:
            largest = max(
                (
                    self._others[name].max_message_bytes
                    for name, needs in self._all_needs.items()
                    if needs.role is TopicRole.EVENTS and name in self._others
                ),
                default=0,
            )
            if value < largest:
                return self._finding(
                    what,
                    found,
                    f"{largest} or more, as the topic of events",
                    Verdict.DANGEROUS,
                    "Of an event that the other topic would take only the first part"
                    f" may be kept here. {self._set(f'{what}={largest}')}",
                )
        most, remark = self._settings.max_batch_bytes, ""
        if value < most:
            remark = f"Batches are kept smaller than kafka.max_batch_bytes ({most})."
        return self._finding(what, found, words, remedy=remark)

    def _cleanup(self, what: str, found: str) -> TopicFinding:
        role = self._needs.role
        is_compacted = "compact" in found.split(",")
        if role is TopicRole.EVENTS:
            remark = (
                "Of a job only the last record stays: bridge verify can't tell what"
                " was compacted away from what was never there."
                if is_compacted
                else ""
            )
            return self._finding(what, found, "delete or compact", remedy=remark)
        if role is TopicRole.PREVIEWS:
            return self._cleanup_of_previews(what, found)
        if not is_compacted:
            return self._finding(what, found, "delete")
        return self._finding(
            what,
            found,
            "delete",
            Verdict.DANGEROUS,
            f"{_COMPACTED[role]} {self._set(f'{what}=delete')}",
        )

    def _cleanup_of_previews(self, what: str, found: str) -> TopicFinding:
        needed, policies = "compact,delete", found.split(",")
        command = self._set(f"{what}={needed}")
        if "compact" not in policies:
            return self._finding(
                what,
                found,
                needed,
                Verdict.DANGEROUS,
                f"All previews of a job are kept, not its latest alone. {command}",
            )
        if "delete" in policies:
            return self._finding(what, found, needed)
        return self._finding(
            what,
            found,
            needed,
            remedy="Each job has a key of its own: what is only compacted grows for"
            f" ever. {command}",
        )

    def _retention(self, what: str, found: str) -> TopicFinding:
        value, needed = int(found), f"{_LEAST_RETENTION_MS} or more, or -1"
        deletes = "delete" in self._configs.get("cleanup.policy", "delete").split(",")
        if not deletes or value == -1 or value >= _LEAST_RETENTION_MS:
            return self._finding(what, found if deletes else "of no account", needed)
        return self._finding(
            what,
            found,
            needed,
            Verdict.DANGEROUS,
            "A record's time is when it was read: after an outage that is longer than"
            " this, what waited is deleted as soon as it is written."
            f" {self._set(f'{what}={_LEAST_RETENTION_MS}')}",
        )

    def _timestamps(self, what: str, found: str) -> TopicFinding:
        needed = "CreateTime"
        if found == needed:
            return self._finding(what, found, needed)
        return self._finding(
            what,
            found,
            needed,
            Verdict.DANGEROUS,
            "A record's time would be when it was written, after an outage hours later"
            f" than when it was read. {self._set(f'{what}={needed}')}",
        )

    def _ages(self) -> Iterator[TopicFinding]:
        if self._configs.get("message.timestamp.type") != "CreateTime":
            # The broker looks at no record's own time then.
            return
        for what in (
            "message.timestamp.before.max.ms",
            "message.timestamp.difference.max.ms",
        ):
            value = int(self._configs.get(what, _LEAST_AGE_MS))
            if value < _LEAST_AGE_MS:
                yield self._finding(
                    what,
                    str(value),
                    f"{_LEAST_AGE_MS} or more",
                    Verdict.DANGEROUS,
                    "What waited for longer while Kafka was away is refused, and"
                    f" becomes a dead letter. {self._set(f'{what}={_LEAST_AGE_MS}')}",
                )

    def _unclean_election(self, what: str, found: str) -> TopicFinding:
        needed = "false"
        if found == needed:
            return self._finding(what, found, needed)
        return self._finding(
            what,
            found,
            needed,
            Verdict.DANGEROUS,
            "A broker that has fallen behind may become leader, and what it doesn't"
            f" have is gone. {self._set(f'{what}={needed}')}",
        )

    def _compression(self, what: str, found: str) -> TopicFinding:
        ours, theirs = self._settings.compression, _CODECS.get(found, found)
        needed = f"producer or {'uncompressed' if ours == 'none' else ours}"
        if found == "producer" or theirs == ours:
            return self._finding(what, found, needed)
        return self._finding(
            what,
            found,
            needed,
            remedy="The broker compresses each batch anew. Set kafka.compression"
            f" (BRIDGE_KAFKA_COMPRESSION={theirs}) to spare it that.",
        )


_LIMITS = {
    TopicRole.EVENTS: "limits.event_bytes",
    TopicRole.DEAD_LETTERS: "limits.dead_letter_bytes",
    TopicRole.GAPS: "a gap's record",
    TopicRole.PREVIEWS: "limits.preview_bytes",
}

_COMPACTED = {
    TopicRole.DEAD_LETTERS: "Of a job only the last dead letter would stay, and those"
    " without a key are refused.",
    TopicRole.GAPS: "The key is the client id: of each account's gaps only the last"
    " would stay.",
}
