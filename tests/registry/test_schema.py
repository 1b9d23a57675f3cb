"""The subject of a schema, as Confluent's own strategies call it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka.schema_registry import (
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from bridge.registry.schema import SubjectNaming, subject_of
from tests.registry.asking import JOB_STATUS


_Strategy = Callable[[SerializationContext, str], str]


@pytest.mark.parametrize(
    ("naming", "strategy", "subject"),
    [
        ("topic", topic_subject_name_strategy, "my.jobs-value"),
        ("record", record_subject_name_strategy, "Job status"),
        (
            "topic-record",
            topic_record_subject_name_strategy,
            "my.jobs-Job status",
        ),
    ],
)
def test_subjects_are_called_as_confluents_strategies_call_them(
    naming: SubjectNaming, strategy: _Strategy, subject: str
) -> None:
    """A record's name is its schema's title."""
    context = SerializationContext("my.jobs", MessageField.VALUE)

    assert subject_of(naming, "my.jobs", JOB_STATUS) == subject
    assert strategy(context, JOB_STATUS.record_name) == subject
