"""What the schemas and the AsyncAPI document promise, judged by others' validators."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from bridge.contract import PUBLISHED, text_of
from bridge.contract.asyncapi import build_document
from bridge.contract.released import named
from bridge.settings import Settings
from tests.contract.drawing import drawn
from tests.kit import npm, wheels


_SCHEMAS = Path(__file__).parents[2] / "schemas"
_RELEASED = sorted((_SCHEMAS / "released").glob("*/*.schema.json"))
_SCRIPT = Path(__file__).with_name("asyncapi_parser.mjs")


def _validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _flaws_of(schema: dict[str, Any]) -> list[str]:
    """Give what a schema's reader would miss or what contradicts its own examples."""
    Draft202012Validator.check_schema(schema)
    judge, first = _validator(schema), schema["examples"][0]
    flaws = [
        f"example {each}" for each in schema["examples"] if not judge.is_valid(each)
    ]
    if not judge.is_valid({**first, "a member nobody knows": [1]}):
        flaws.append("a new member would be refused")
    for name in schema["required"]:
        less = {key: value for key, value in first.items() if key != name}
        if judge.is_valid(less) or judge.is_valid({**first, name: [5]}):
            flaws.append(f"{name}: may be missing, or of another type")
    for name, member in schema["properties"].items():
        if not (member["description"] and member["examples"]):
            flaws.append(f"{name}: isn't explained")
        flaws += [
            f"{name}: {example}"
            for example in member["examples"]
            if not _validator(member).is_valid(example)
        ]
    return flaws


def test_every_schema_explains_itself_by_valid_examples() -> None:
    """Each member has a description and examples, and what breaks it is refused."""
    schemas = {each.file_name: json.loads(text_of(each.name)) for each in PUBLISHED}

    found = {name: _flaws_of(schema) for name, schema in schemas.items()}

    assert {name: flaws for name, flaws in found.items() if flaws} == {}


def test_there_is_something_to_compare_with() -> None:
    """Each kind of record has its released schema."""
    assert {path.name for path in _RELEASED} == {each.file_name for each in PUBLISHED}


@pytest.mark.parametrize("path", _RELEASED, ids=lambda path: path.name)
@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data())
def test_records_of_now_are_valid_under_what_was_released(
    path: Path, data: st.DataObject
) -> None:
    """What today's schema allows, a reader with an older one of its number takes."""
    older = json.loads(path.read_text(encoding="utf-8"))
    newer = json.loads(text_of(path.name.removesuffix(".schema.json")))
    if named(newer) == named(older):
        record = data.draw(drawn(newer))
        Draft202012Validator(newer).validate(record)
        Draft202012Validator(older).validate(record)


def _parsed(file: Path) -> dict[str, Any]:
    """Give what the official parser makes of a document."""
    # Measured: 1.2 s, and 13 s beside much else. Fetching takes no part of it.
    finished = subprocess.run(
        [wheels.node(), _SCRIPT, npm.fetch_asyncapi_parser(), file],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    parsed: dict[str, Any] = json.loads(finished.stdout)
    return parsed


@pytest.mark.connected
@pytest.mark.timeout(300)
def test_official_parser_takes_the_asyncapi_document(tmp_path: Path) -> None:
    """It finds each kind of record and no fault; of a broken one it names the place."""
    parsed = _parsed(_SCHEMAS / "asyncapi.json")
    settings = Settings(topic="jobs")
    assert parsed["problems"] == []
    assert {message["name"]: message["topic"] for message in parsed["messages"]} == {
        "JobStatusRecord": settings.topic,
        "DeadLetterRecord": settings.dead_letter_topic,
        "GapRecord": settings.gap_topic,
        "PreviewRecord": settings.preview_topic,
    }

    document = build_document()
    document["channels"]["jobs"]["address"] = 5
    broken = tmp_path / "asyncapi.json"
    broken.write_text(json.dumps(document))
    problems = _parsed(broken)["problems"]
    assert any(problem.startswith("channels.jobs.address") for problem in problems)


def test_asyncapi_s_examples_are_valid_records() -> None:
    """An independent validator takes each example's headers, value and key."""
    document = build_document()
    schemas = document["components"]["schemas"]

    def resolved(part: Any) -> Any:
        return schemas[part["$ref"].split("/")[-1]] if "$ref" in part else part

    for message in document["components"]["messages"].values():
        assert message["examples"]
        for example in message["examples"]:
            _validator(resolved(message["headers"])).validate(example["headers"])
            _validator(resolved(message["payload"])).validate(example["payload"])
            key = example["headers"].get("ce_subject")
            _validator(message["bindings"]["kafka"]["key"]).validate(key)
