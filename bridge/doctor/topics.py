"""
What is said of topics, sizes and rights: lines out of what the brokers told.

What topics must be like stands in `bridge.kafka.topic_checks`. Nobody is asked here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from bridge.doctor.branch import Branch, Found
from bridge.doctor.remedies import ProblemError
from bridge.errors import ExitCode
from bridge.kafka.requests import TopicFacts
from bridge.kafka.topic_checks import TopicFinding, Verdict
from bridge.kafka.topics import NEEDED, WISHED, LookedUp, Rights
from bridge.settings import KafkaSettings


__all__ = ["Told", "Topic", "tell_writing"]

_REFUSED: Final = ExitCode.REFUSED_BY_KAFKA

_SIZE: Final = "max.message.bytes"
# What `topic_checks` calls rights, and a configuration that this user may not see:
# `kafka.acls` tells of both.
_OF_RIGHTS: Final = frozenset({"rights", "configuration"})

# What it calls what this user may do.
_RIGHTS: Final = "rights"


class Told(msgspec.Struct, frozen=True):
    """
    What the brokers told of all topics.

    Attributes:
        kafka: How to reach them.
        looked_up: What they have.
        findings: What that is like, by topic.
        rights: What this user may do.
    """

    kafka: KafkaSettings
    looked_up: LookedUp
    findings: Mapping[str, Sequence[TopicFinding]]
    rights: Rights


class Topic:
    """
    The lines of a topic: whether it is there, and what needs that alone.

    Args:
        name: The topic.
        end: When the check ends (trio's clock).
    """

    def __init__(self, name: str, end: float) -> None:
        self._name = name
        silence = {"kafka.topics": ProblemError("", "See to the brokers' logs")}
        self._there = Branch(name, ["kafka.topics"], end, silence, _REFUSED)
        self._rights = Branch(name, ["kafka.acls"], end, None, _REFUSED)
        self._size = Branch(name, ["kafka.sizes"], end, None, _REFUSED)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All of it, in walking order."""
        return self._there, self._rights, self._size

    def leave(self, why: str | None) -> None:
        """Note that nothing is known of it, and why."""
        for branch in self.branches:
            branch.failed = why

    def tell(self, told: Told) -> None:
        """Make lines of what was told."""
        facts = told.looked_up.facts.get(self._name)
        with self._there as branch, branch.step("kafka.topics") as found:
            if facts is None:
                _tell_absent(self._name, told, found)
            else:
                found.detail = (
                    f"{_many(facts.partitions, 'partition')},"
                    f" {_many(facts.replicas, 'replica')}"
                )
                _warn(
                    (
                        one
                        for one in told.findings[self._name]
                        if one.what != _SIZE and one.what not in _OF_RIGHTS
                    ),
                    found,
                )
                if not facts.is_led:
                    found.warn(
                        "a partition has no leader: its records wait",
                        "See that the brokers of its replicas are up",
                    )
        if facts is None:
            self._rights.failed = self._size.failed = "the topic"
            return
        with self._rights as branch, branch.step("kafka.acls") as found:
            _tell_right(facts, told.kafka, found)
        with self._size as branch, branch.step("kafka.sizes") as found:
            _tell_size(told.findings[self._name], found)


def _tell_size(findings: Iterable[TopicFinding], found: Found) -> None:
    sizes = [one for one in findings if one.what == _SIZE]
    if not sizes:
        found.detail = "the topic's configuration is hidden; Kafka's default holds"
    for one in sizes:
        if one.verdict is Verdict.MISSING:
            raise ProblemError(
                f"{_SIZE} is {one.found}, and {one.needed} is needed",
                one.remedy,
            )
        found.detail = f"{one.found} bytes a batch, {one.needed} wanted"
    _warn(sizes, found)


def _tell_absent(name: str, told: Told, found: Found) -> None:
    problems = told.looked_up.problems
    if name in problems:
        raise problems[name]
    if told.kafka.create_topics:
        refused = told.rights.creations.get(name)
        if refused is not None:
            raise refused
        found.detail = "not there; the bridge can create it"
        return
    (missing,) = told.findings[name]
    raise ProblemError("not there, or this user may not see it", missing.remedy)


def _warn(findings: Iterable[TopicFinding], found: Found) -> None:
    for one in findings:
        if one.verdict is not Verdict.FINE:
            found.warn(f"{one.what} is {one.found}, wanted is {one.needed}", one.remedy)


def _tell_right(facts: TopicFacts, kafka: KafkaSettings, found: Found) -> None:
    lacks = facts.lacks(NEEDED)
    if lacks is None:
        found.detail = "these brokers don't tell what a user may do"
        return
    if lacks:
        raise ProblemError(
            f"this user lacks {' and '.join(lacks)} on the topic",
            _grant(facts.name, lacks, kafka),
        )
    found.detail = "Read, Write and Describe; no consumer group is used"
    if wished := facts.lacks(WISHED):
        found.warn(
            "this user lacks DescribeConfigs: what is dangerous about the topic can't"
            " be told",
            _grant(facts.name, wished, kafka),
        )


def _grant(name: str, operations: Iterable[str], kafka: KafkaSettings) -> str:
    """Give the command that grants rights."""
    user = kafka.sasl_username or "<the bridge's user>"
    words = ["kafka-acls.sh", "--bootstrap-server", kafka.bootstrap_servers, "--add"]
    words += ["--allow-principal", f"User:{user}"]
    for operation in operations:
        words += ["--operation", operation]
    words += ["--topic", name]
    return f"Grant it: {shlex.join(words)}"


def tell_writing(branch: Branch, rights: Rights, id_prefix: str | None) -> None:
    """Say whether this user may write as the bridge does; without ids idempotently."""
    with branch.step("kafka.producer") as found:
        if rights.producer is not None:
            raise rights.producer
        found.detail = "may write idempotently"
    if id_prefix is not None:
        with branch.step("kafka.transactions") as found:
            if rights.transactions is not None:
                raise rights.transactions
            found.detail = f"may use ids that begin with {id_prefix}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
