"""What the bridge writes is what the schemas say, header by header."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.job_status import Change
from bridge.gaps.gap import GapCause
from bridge.schemas.json_schema import SCHEMAS
from tests.schemas.real_records import Written, written


# By topic: of headers, and of values where they have one.
_HEADERS = {
    "jobs": "job-status-headers",
    "jobs.dlq": "dead-letter-headers",
    "jobs.gaps": "gap-headers",
    "jobs.previews": "preview-headers",
}
_VALUES = {"jobs": "job-status", "jobs.gaps": "gap"}
_WORDS = {
    names.BRIDGE_NORMALIZED: set(Change),
    names.BRIDGE_ANOMALY: {"duplicate", "regression", "resent", "replayed"},
}


@pytest.fixture(scope="module")
def records() -> dict[str, list[Written]]:
    """One of each record that can be written, by topic."""
    found: dict[str, list[Written]] = defaultdict(list)
    for record in written():
        found[record.topic].append(record)
    return found


def test_every_record_conforms(records: dict[str, list[Written]]) -> None:
    """An independent validator takes all headers and values, and knows each header."""
    assert records.keys() == _HEADERS.keys()
    for topic, name in _HEADERS.items():
        schema = SCHEMAS[name] | {"additionalProperties": False}
        judge = Draft202012Validator(schema, format_checker=FormatChecker())
        for record in records[topic]:
            judge.validate(record.headers)
    for topic, name in _VALUES.items():
        judge = Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker())
        for record in records[topic]:
            judge.validate(json.loads(record.value))


def test_schemas_name_no_header_that_is_never_written(
    records: dict[str, list[Written]],
) -> None:
    """Each header that is described is in some record, and what must be, in all."""
    for topic, name in _HEADERS.items():
        schema = SCHEMAS[name]
        sets = [record.headers.keys() for record in records[topic]]
        assert set().union(*sets) == schema["properties"].keys(), topic
        assert set.intersection(*map(set, sets)) == set(schema["required"]), topic


def test_words_of_lists_are_written_and_explained(
    records: dict[str, list[Written]],
) -> None:
    """Each word that a header can have is written, and named in its schema."""
    seen: dict[str, set[str]] = {name: set() for name in _WORDS}
    for topic, schema in _HEADERS.items():
        members = SCHEMAS[schema]["properties"]
        for record in records[topic]:
            for name in seen.keys() & record.headers.keys():
                words = record.headers[name].split(",")
                seen[name].update(words)
                assert set(words) <= set(members[name]["examples"])
    assert seen == _WORDS
    reasons = {record.headers[names.BRIDGE_REASON] for record in records["jobs.dlq"]}
    causes = {json.loads(record.value)["cause"] for record in records["jobs.gaps"]}
    assert (reasons, causes) == (set(DeadLetterReason), set(GapCause))
