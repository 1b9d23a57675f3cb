"""Topics looked up in a real Kafka, and the answers that are hard to provoke."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio

import pytest
from aiokafka import errors  # noqa: TID251 - what is made to fail

from bridge.errors import KafkaUnreachableError
from bridge.kafka import topics
from bridge.kafka.requests import Metadata, TopicFacts
from bridge.kafka.topics import LookedUp, look_up
from tests.conftest import Topic
from tests.kafka.relay.faults import intercept
from tests.kafka.relay.relaying import settings_for


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
