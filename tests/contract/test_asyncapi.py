"""The AsyncAPI document is one to those who made the format, and says what is so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from bridge.contract import PUBLISHED
from bridge.contract.asyncapi import build_document
from bridge.contract.json_schema import schema_of
from bridge.contract.page import build_page
from bridge.settings import Settings
from tests.kit import downloads


SCRIPT = Path(__file__).with_name("asyncapi_parser.mjs")
ON_DISK = Path(__file__).parents[2] / "schemas" / "asyncapi.json"

Verdict = dict[str, Any]


def judged(file: Path) -> Verdict:
    """Give what the official parser has to say of a document."""
    # Measured: 1.2 s, and 13 s beside much else. Fetching takes no part of it.
    finished = subprocess.run(
        [downloads.node(), SCRIPT, downloads.fetch_asyncapi_parser(), file],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    verdict = json.loads(finished.stdout)
    assert isinstance(verdict, dict)
    return verdict


@pytest.mark.connected
@pytest.mark.timeout(300)
def test_official_parser_takes_the_document() -> None:
    """It finds no fault, and in it each kind of record with its topic and members."""
    verdict = judged(ON_DISK)
    assert verdict["problems"] == []
    settings = Settings(topic="jobs")
    schemas = {published.name: schema_of(published) for published in PUBLISHED}

    def members(name: str) -> list[str]:
        return list(schemas[name]["properties"])

    expected = [
        ("JobStatusRecord", settings.topic, "job-status-headers", "job-status"),
        ("DeadLetterRecord", settings.dead_letter_topic, "dead-letter-headers", None),
        ("GapRecord", settings.gap_topic, "gap-headers", "gap"),
        ("PreviewRecord", settings.preview_topic, "preview-headers", None),
    ]
    found = {message["name"]: message for message in verdict["messages"]}
    assert found.keys() == {name for name, *_ in expected}
    for name, topic, headers, value in expected:
        assert found[name]["topic"] == topic
        assert found[name]["headers"] == members(headers)
        assert found[name]["members"] == (members(value) if value else [])
        assert found[name]["examples"] > 0
    assert found["DeadLetterRecord"]["key"] == ["string", "null"]
    assert set(verdict["operations"]) == {"send"}


def _without_address(document: Any) -> None:
    document["channels"]["jobs"]["address"] = 5


def _dangling(document: Any) -> None:
    message = document["components"]["messages"]["GapRecord"]
    message["payload"]["$ref"] = "#/components/schemas/Nothing"


def _unknown_action(document: Any) -> None:
    document["operations"]["publishJobs"]["action"] = "write"


@pytest.mark.connected
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (_without_address, "channels.jobs.address"),
        (_dangling, "components.messages.GapRecord.payload"),
        (_unknown_action, "operations.publishJobs.action"),
    ],
)
def test_official_parser_refuses_a_broken_document(
    spoil: Callable[[Any], None], place: str, tmp_path: Path
) -> None:
    """Its agreement means something: a fault is found, at its place."""
    document = json.loads(ON_DISK.read_text(encoding="utf-8"))
    spoil(document)
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(document))
    assert any(problem.startswith(place) for problem in judged(file)["problems"])


def test_examples_are_valid_records() -> None:
    """An independent validator takes each example's headers, value and key."""
    document = build_document()
    schemas = document["components"]["schemas"]

    def judge(schema: Any) -> Draft202012Validator:
        return Draft202012Validator(schema, format_checker=FormatChecker())

    def resolved(part: Any) -> Any:
        return schemas[part["$ref"].split("/")[-1]] if "$ref" in part else part

    for message in document["components"]["messages"].values():
        assert message["examples"]
        for example in message["examples"]:
            judge(resolved(message["headers"])).validate(example["headers"])
            judge(resolved(message["payload"])).validate(example["payload"])
            key = example["headers"].get("ce_subject")
            judge(message["bindings"]["kafka"]["key"]).validate(key)


def test_page_shows_all_that_the_document_says() -> None:
    """Each topic, header, member, description and example stands on the page."""
    document = build_document()
    page = build_page(document)
    for channel in document["channels"].values():
        assert f"\n## {channel['address']}\n" in page
        assert channel["description"] in page
    for schema in document["components"]["schemas"].values():
        for name, member in schema["properties"].items():
            assert f"| `{name}` |" in page
            assert member["description"] in page
    for message in document["components"]["messages"].values():
        for example in message["examples"]:
            assert example["summary"] in page
            for name, value in example["headers"].items():
                assert f"\n{name}: {value}\n" in page


def test_page_s_tables_have_whole_rows() -> None:
    """A bar in a sentence breaks no row."""
    document = build_document()
    members = document["components"]["schemas"]["Gap"]["properties"]
    members["cause"]["description"] = "this | that"
    lines = build_page(document).splitlines()
    assert any(r"this \| that" in line for line in lines)
    rows = [line for line in lines if line.startswith("|")]
    columns = {row.replace(r"\|", "").count("|") for row in rows}
    assert columns == {4, 5}
