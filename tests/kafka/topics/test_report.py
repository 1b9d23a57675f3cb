"""What topics are found to be like: a real broker's, and what one broker can't have."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors  # noqa: TID251 - what is made to fail
from confluent_kafka.admin import ConfigResource, ResourceType

from bridge.errors import KafkaUnreachableError
from bridge.kafka import topics
from bridge.kafka.requests import Metadata, TopicFacts
from bridge.kafka.topic_checks import TopicFinding, Verdict, report
from bridge.kafka.topics import (
    LookedUp,
    TopicNeeds,
    TopicRole,
    creation,
    creation_command,
    look_up,
    topic_needs,
)
from bridge.settings import KafkaSettings, LimitSettings, Settings
from tests.conftest import Topic
from tests.kafka.relay.faults import intercept
from tests.kit.broker import KafkaBroker, admin_of


# Of each topic here, since there is one broker.
_ALONE = {"replication.factor": Verdict.WARNING}

_EVENTS, _LETTERS, _GAPS = TopicRole.EVENTS, TopicRole.DEAD_LETTERS, TopicRole.GAPS
_WARNING = Verdict.WARNING

# Role, configuration, and the verdict on the first of it where that isn't ok.
_CASES: dict[str, tuple[TopicRole, str, Verdict]] = {
    "plain": (_EVENTS, "", Verdict.OK),
    "compacted events": (_EVENTS, "cleanup.policy=compact", Verdict.OK),
    "both": (_EVENTS, "cleanup.policy=compact,delete", Verdict.OK),
    "compacted gaps": (_GAPS, "cleanup.policy=compact", _WARNING),
    "compacted letters": (_LETTERS, "cleanup.policy=compact,delete", _WARNING),
    "compacted previews": (TopicRole.PREVIEWS, "cleanup.policy=compact", Verdict.OK),
    "previews by age": (TopicRole.PREVIEWS, "cleanup.policy=delete", _WARNING),
    "small": (_EVENTS, "max.message.bytes=1008191", Verdict.ERROR),
    "just large enough": (_EVENTS, "max.message.bytes=1008192", Verdict.OK),
    "small for gaps": (_GAPS, "max.message.bytes=100000", Verdict.OK),
    "smaller than events": (_LETTERS, "max.message.bytes=1008192", _WARNING),
    "the broker's time": (
        _EVENTS,
        "message.timestamp.type=LogAppendTime message.timestamp.before.max.ms=1000",
        _WARNING,
    ),
    "young alone": (_LETTERS, "message.timestamp.before.max.ms=3600000", _WARNING),
    "short": (_GAPS, "retention.ms=3600000", _WARNING),
    "short, compacted": (
        _EVENTS,
        "retention.ms=3600000 cleanup.policy=compact",
        Verdict.OK,
    ),
    "for ever": (_GAPS, "retention.ms=-1", Verdict.OK),
    "any leader": (_EVENTS, "unclean.leader.election.enable=true", _WARNING),
    "its own codec": (_EVENTS, "compression.type=zstd", Verdict.OK),
    "more in sync than there are": (_EVENTS, "min.insync.replicas=2", _WARNING),
}


def configs_of(case: str) -> dict[str, str]:
    """A case's configuration by name."""
    return dict(one.split("=") for one in _CASES[case][1].split())


_Found = Mapping[str, tuple[TopicFinding, ...]]


def settings_for(kafka: KafkaBroker | Topic) -> KafkaSettings:
    """Settings for the suite's broker."""
    return KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, replication_factor=1, partitions=2
    )


def value_bytes(role: TopicRole) -> int:
    """Give the default limit of a role."""
    return 4096 if role is TopicRole.GAPS else 1_000_000


@pytest.fixture(scope="module")
def found(shared_kafka: KafkaBroker) -> _Found:
    """All cases' topics in one look: findings by case."""
    suffix = uuid.uuid4().hex[:8]
    names = {case: f"case-{n}-{suffix}" for n, case in enumerate(_CASES)}
    for case, name in names.items():
        shared_kafka.create_topic(name, 1, configs_of(case))
    needs = {
        names[case]: TopicNeeds(role, value_bytes(role))
        for case, (role, _, _) in _CASES.items()
    }
    settings = settings_for(shared_kafka)
    looked_up = asyncio.run(look_up(settings, [*needs]))
    findings = report(looked_up, needs, settings)
    return {case: findings[name] for case, name in names.items()}


def bad(findings: tuple[TopicFinding, ...]) -> dict[str, Verdict]:
    """Give the verdicts that aren't ok."""
    return {one.what: one.verdict for one in findings if one.verdict is not Verdict.OK}


@pytest.mark.parametrize("case", _CASES)
def test_a_topic_is_judged_by_what_it_is_for(found: _Found, case: str) -> None:
    """Each of a topic's configurations has its verdict, and what is bad a remedy."""
    verdict, configs = _CASES[case][2], configs_of(case)
    wrong = [] if verdict is Verdict.OK else [next(iter(configs))]
    assert bad(found[case]) == _ALONE | dict.fromkeys(wrong, verdict)
    by_name = {one.what: one for one in found[case]}
    for what in wrong:
        assert by_name[what].found.startswith(configs[what])
        assert f"--entity-name {by_name[what].topic} " in by_name[what].remedy
        assert f"--add-config {what}=" in by_name[what].remedy.replace("'", "")


def judged(**changes: Any) -> dict[str, TopicFinding]:
    """Judge a topic of events on more brokers than run here."""
    metadata: dict[str, Any] = {"replicas": 3, "configs": {"min.insync.replicas": "2"}}
    facts = TopicFacts("jobs", dict.fromkeys(range(6), 0), **(metadata | changes))
    needs = {"jobs": TopicNeeds(TopicRole.EVENTS, 1000)}
    findings = report(LookedUp({"jobs": facts}), needs, KafkaSettings())["jobs"]
    return {one.what: one for one in findings}


@pytest.mark.parametrize(
    ("replicas", "in_sync", "expected"),
    [
        (3, "2", {}),
        (3, "3", {}),
        (2, "2", {}),
        (3, "1", {"min.insync.replicas"}),
        (2, "1", {"min.insync.replicas"}),
        (2, "3", {"min.insync.replicas"}),
        (1, "1", {"replication.factor"}),
    ],
)
def test_one_broker_must_not_be_able_to_take_what_was_acknowledged(
    replicas: int, in_sync: str, expected: set[str]
) -> None:
    """Two replicas in sync are the minimum that is ok."""
    found = judged(replicas=replicas, configs={"min.insync.replicas": in_sync})
    assert {one.what for one in found.values() if one.verdict is Verdict.WARNING} == {
        *expected
    }


def test_what_may_not_be_read_is_unknown() -> None:
    """Without DescribeConfigs one row says so; what metadata has is checked."""
    found = judged(configs=None)
    assert [*found] == ["topic", "partitions", "replication.factor", "configuration"]
    assert found["configuration"].verdict is Verdict.UNKNOWN
    assert "Grant DescribeConfigs" in found["configuration"].remedy


def test_what_a_broker_does_not_know_is_unknown() -> None:
    """A broker that isn't Apache's may lack a configuration: nothing fails."""
    found = judged()
    assert found["min.insync.replicas"].verdict is Verdict.OK
    assert found["unclean.leader.election.enable"].verdict is Verdict.UNKNOWN


def test_what_is_created_is_found_fine(kafka: KafkaBroker) -> None:
    """Each role's topic has the stated configuration, read back by another client."""
    name = f"made-{uuid.uuid4().hex[:8]}"
    needs = topic_needs(
        Settings(
            topic=name,
            previews="topic",
            limits=LimitSettings(event_bytes=3_000_000, preview_bytes=2_000_000),
        )
    )
    assert [*needs] == [name, f"{name}.dlq", f"{name}.gaps", f"{name}.previews"]
    settings = settings_for(kafka)
    creations = {one: creation(one, needs, settings) for one in needs}
    looked_up = asyncio.run(look_up(settings, [*needs], creations))
    for findings in report(looked_up, needs, settings).values():
        assert bad(findings) == _ALONE
    counts = {facts.name: facts.partitions for facts in looked_up.facts.values()}
    assert [*counts.values()] == [2, 2, 1, 2]
    wanted = {
        name: ("delete", "3008192", None),
        f"{name}.dlq": ("delete", "3008192", "2592000000"),
        f"{name}.gaps": ("delete", "1048588", "-1"),
        f"{name}.previews": ("compact,delete", "2008192", None),
    }
    for topic, (cleanup, size, retention) in wanted.items():
        configs = overrides(kafka, topic)
        assert configs == {
            "cleanup.policy": cleanup,
            "max.message.bytes": size,
            "message.timestamp.type": "CreateTime",
            "min.insync.replicas": "1",
        } | ({} if retention is None else {"retention.ms": retention})


def overrides(kafka: KafkaBroker, topic: str) -> dict[str, str]:
    """Give what was set of a topic's configuration, by confluent-kafka's client."""
    admin = admin_of(kafka.bootstrap_servers)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    future: Future[Any] = admin.describe_configs([resource])[resource]
    return {
        entry.name: entry.value
        for entry in future.result(10).values()
        if not entry.is_default
    }


def test_a_missing_topic_has_the_command_that_creates_it() -> None:
    """Its remedy is the command whose text the page of the docs has."""
    needs, settings = topic_needs(Settings()), KafkaSettings()
    made = creation("jobs.gaps", needs, settings)
    (absent,) = report(LookedUp({}, ("jobs.gaps",)), needs, settings)["jobs.gaps"]
    assert absent.verdict is Verdict.ERROR
    assert creation_command(made, settings) in absent.remedy


def test_the_page_has_the_commands_that_the_bridge_would_give() -> None:
    """The commands in docs/operate/topics.md create what the bridge creates."""
    page = (Path(__file__).parents[3] / "docs" / "operate" / "topics.md").read_text(
        "utf-8"
    )
    needs = topic_needs(Settings(previews="topic"))
    settings = KafkaSettings(bootstrap_servers="kafka:9092")
    lines = page.splitlines()
    commands = [line for line in lines if line.startswith("kafka-topics.sh")]
    assert commands == [
        creation_command(creation(name, needs, settings), settings) for name in needs
    ]


def look(topic: Topic, *names: str) -> LookedUp:
    """Look topics up."""
    return asyncio.run(look_up(settings_for(topic), names or [topic.name]))


def answer_with(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let Kafka describe every topic with an error."""

    async def describe(_: object, names: list[str]) -> dict[str, TopicFacts]:
        return {name: TopicFacts(name, {}, 0, error_code=code) for name in names}

    monkeypatch.setattr(topics, "describe_topics", describe)


def test_a_missing_topic_hides_no_other(topic: Topic) -> None:
    """Existing topics are described beside missing and invalid ones."""
    found = look(topic, "a", topic.name, "no topic", "b")
    assert [*found.facts] == [topic.name]
    assert found.missing == ("a", "b")
    assert "'no topic'" in str(found.problems["no topic"])


@pytest.mark.parametrize(("code", "words"), [(5, "no leader"), (41, "NotController")])
def test_what_may_go_away_is_unreachable(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    """A leader that stays away, or an error of the broker, is worth another try."""
    monkeypatch.setattr(topics, "LEADER_PAUSE_SECONDS", 0.0)
    answer_with(monkeypatch, code)
    problem = look(topic).problems[topic.name]
    assert isinstance(problem, KafkaUnreachableError)
    assert words in str(problem)


def test_a_connection_that_breaks_is_unreachable(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of aiokafka come out as the bridge's, with an address."""
    for error in (errors.KafkaConnectionError("gone"), errors.RequestTimedOutError()):

        async def fail(_: object, error: Exception = error) -> object:
            raise error

        intercept(monkeypatch, Metadata, fail)
        with pytest.raises(KafkaUnreachableError, match=topic.bootstrap_servers):
            look(topic)
