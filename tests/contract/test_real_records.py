"""What the bridge writes is what the schemas say, header by header."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from bridge.contract import text_of
from bridge.errors import DeadLetterReason
from bridge.job_status import Change
from bridge.kafka import header_names as names
from bridge.recovery.gap import GapCause
from tests.contract.real_records import Written, written


# By topic: of headers, and of values where they have one.
HEADERS = {
    "jobs": "job-status-headers",
    "jobs.dlq": "dead-letter-headers",
    "jobs.gaps": "gap-headers",
    "jobs.previews": "preview-headers",
}
VALUES = {"jobs": "job-status", "jobs.gaps": "gap"}


@pytest.fixture(scope="module")
def records() -> dict[str, list[Written]]:
    """One of each record that can be written, by topic."""
    found: dict[str, list[Written]] = defaultdict(list)
    for record in written():
        found[record.topic].append(record)
    return found


@pytest.mark.parametrize("topic", HEADERS)
def test_headers_are_those_of_the_schema(
    topic: str, records: dict[str, list[Written]]
) -> None:
    """An independent validator takes them all; none is there that has no name."""
    schema = json.loads(text_of(HEADERS[topic])) | {"additionalProperties": False}
    judge = Draft202012Validator(schema, format_checker=FormatChecker())
    assert records[topic]
    for record in records[topic]:
        judge.validate(record.headers)


@pytest.mark.parametrize("topic", HEADERS)
def test_schema_names_no_header_that_is_never_written(
    topic: str, records: dict[str, list[Written]]
) -> None:
    """Each header that is described stands in some record, and what must, in all."""
    schema = json.loads(text_of(HEADERS[topic]))
    sets = [record.headers.keys() for record in records[topic]]
    assert set().union(*sets) == schema["properties"].keys()
    assert set.intersection(*map(set, sets)) == set(schema["required"])


@pytest.mark.parametrize("topic", VALUES)
def test_values_are_those_of_the_schema(
    topic: str, records: dict[str, list[Written]]
) -> None:
    """An independent validator takes each value."""
    judge = Draft202012Validator(
        json.loads(text_of(VALUES[topic])), format_checker=FormatChecker()
    )
    for record in records[topic]:
        judge.validate(json.loads(record.value))


WORDS = {
    names.BRIDGE_NORMALIZED: set(Change),
    names.BRIDGE_ANOMALY: {"duplicate", "regression", "resent", "replayed"},
}


@pytest.mark.parametrize("name", WORDS)
def test_words_of_open_lists_are_explained(
    name: str, records: dict[str, list[Written]]
) -> None:
    """Each word that is written in such a header is named where it is described."""
    seen: set[str] = set()
    for topic, schema in HEADERS.items():
        member = json.loads(text_of(schema))["properties"].get(name)
        for record in records[topic]:
            for word in filter(None, record.headers.get(name, "").split(",")):
                assert f"`{word}`" in member["description"]
                seen.add(word)
    assert seen == WORDS[name]


def test_closed_lists_are_written_whole(records: dict[str, list[Written]]) -> None:
    """The records here are of each reason and of each cause."""
    reasons = {record.headers[names.BRIDGE_REASON] for record in records["jobs.dlq"]}
    causes = {json.loads(record.value)["cause"] for record in records["jobs.gaps"]}
    assert reasons == set(DeadLetterReason)
    assert causes == set(GapCause)


def test_digest_leads_from_a_job_to_its_preview(
    records: dict[str, list[Written]],
) -> None:
    """Each digest on `jobs` is one on `jobs.previews`, of the same job."""
    name, key = names.BRIDGE_PREVIEW_SHA256, names.CE_SUBJECT
    previews = {
        (record.headers[key], record.headers[name])
        for record in records["jobs.previews"]
    }
    referred = {
        (record.headers[key], record.headers[name])
        for record in records["jobs"]
        if name in record.headers
    }
    assert referred == previews
