"""What the schemas and the AsyncAPI document promise, judged by others' validators."""

from __future__ import annotations

import copy
import json
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from jsonschema import Draft202012Validator, FormatChecker

import bridge
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.job_status import Change
from bridge.gaps.gap import GapCause
from bridge.schemas.asyncapi import build_document
from bridge.schemas.json_schema import SCHEMAS, Schema
from bridge.settings import Settings
from tests.kit import npm, wheels
from tests.schemas.drawing import drawn
from tests.schemas.real_records import Written, written


_ROOT = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("asyncapi_parser.mjs")


def _validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=FormatChecker())


def _flaws_of(schema: Schema) -> list[str]:
    """Give what a schema's reader would miss or what contradicts its own examples."""
    Draft202012Validator.check_schema(schema)
    judge, first = _validator(schema), schema["examples"][0]
    flaws = [
        f"example {each}" for each in schema["examples"] if not judge.is_valid(each)
    ]
    if not judge.is_valid({**first, "an unknown member": [1]}):
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


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_explains_itself_by_valid_examples(name: str) -> None:
    """Each member has a description and examples, and what breaks it is refused."""
    assert _flaws_of(SCHEMAS[name]) == []


# -- Compatibility with the last release -----------------------------------------------


def _released(repository: Path) -> dict[str, Schema]:
    """Read the schemas of the last release, by file name, from its tag."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=30
        ).stdout.strip()

    tag = git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*")
    paths = git("ls-tree", "--name-only", tag, "schemas/").split() if tag else []
    return {
        path.removeprefix("schemas/"): json.loads(git("show", f"{tag}:{path}"))
        for path in paths
        if path.endswith(".schema.json")
    }


def _breach(newer: Schema | None, older: Schema) -> object:
    """Find what a reader with a released schema can't accept; None if nothing."""
    if newer is None:
        return "the schema is gone"
    number, former = (int(one["$id"].rpartition(":")[2]) for one in (newer, older))
    if number < former:
        return "its number is lower"
    if number > former:
        return None
    # A Schema Registry's subject may be named after it.
    if newer["title"] != older["title"]:
        return "its title has changed"
    judge = Draft202012Validator(older)
    try:
        return hypothesis.find(
            drawn(newer),
            lambda record: not judge.is_valid(record),
            settings=hypothesis.settings(
                max_examples=100, database=None, phases=[hypothesis.Phase.generate]
            ),
        )
    except hypothesis.errors.NoSuchExample:
        return None


def test_records_of_this_version_are_valid_under_the_last_release() -> None:
    """A reader with a released schema accepts what today's with its number allows."""
    released = _released(_ROOT)
    # Before the first release nothing is promised; a clone without tags isn't that.
    assert released or bridge.__version__ == "0.1.0", "git fetch --tags"
    today = {f"{name}.schema.json": schema for name, schema in SCHEMAS.items()}
    assert {name: _breach(today.get(name), released[name]) for name in released} == (
        dict.fromkeys(released)
    )


def test_the_last_release_is_read_from_its_tag(tmp_path: Path) -> None:
    """The newest tag's schemas, not those of the work tree or of a tag before it."""
    (tmp_path / "schemas").mkdir()
    for version in ("v0.1.0", "v0.2.0", None):
        text = json.dumps({"$id": version})
        (tmp_path / "schemas" / "gap.schema.json").write_text(text)
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        steps = (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x"])
        for step in (*steps, *([["tag", version]] if version else [])):
            command = ["git", "-C", str(tmp_path), *step]
            subprocess.run(command, check=True)

    assert _released(tmp_path) == {"gap.schema.json": {"$id": "v0.2.0"}}


def _member(name: str, **keywords: object) -> Callable[[Schema], None]:
    """Change what a member may be."""
    return lambda schema: schema["properties"][name].update(keywords)


def _gone(schema: Schema) -> None:
    del schema["properties"]["result_url"]
    schema["required"].remove("result_url")


_BREAKING: dict[str, Callable[[Schema], Any]] = {
    "a member goes": _gone,
    "a member isn't always there": lambda schema: schema["required"].remove("status"),
    "a longer limit": _member("request_id", maxLength=257),
    "another pattern": _member("request_id", pattern="^.*$", minLength=0),
    "a wider type": _member(
        "progress", anyOf=[{"type": "string"}, {"type": "number"}, {"type": "null"}]
    ),
    "null where none was": _member("status", enum=["done", None]),
    "a new word in a closed list": _member("status", enum=["done", "paused"]),
    "another title": lambda schema: schema.update(title="Job"),
    "a lower number": lambda schema: schema.update({"$id": "urn:x:job-status:0"}),
}
_HARMLESS: dict[str, Callable[[Schema], Any]] = {
    "nothing": lambda _: None,
    "a new member": lambda schema: schema["properties"].update(queue={"type": "null"}),
    "a member is always there": lambda schema: schema["required"].append("error_code"),
    "a shorter limit": _member("request_id", maxLength=36),
    "a narrower type": _member("preview", anyOf=[{"type": "null"}]),
    "a word that isn't written": _member("status", enum=["done", "error"]),
    "other descriptions": lambda schema: schema.update(description="Other words."),
    "a new number": lambda schema: schema.update(
        {"$id": "urn:x:job-status:2", "title": "Job", "required": []}
    ),
}


@pytest.mark.parametrize("change", _BREAKING | _HARMLESS)
def test_what_breaks_a_reader_is_found(change: str) -> None:
    """Drawn records find each breach of the rule, and nothing in what it allows."""
    older = SCHEMAS["job-status"]
    newer = copy.deepcopy(older)
    (_BREAKING | _HARMLESS)[change](newer)
    assert (_breach(newer, older) is not None) == (change in _BREAKING)


# -- AsyncAPI --------------------------------------------------------------------------


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
    parsed = _parsed(_ROOT / "schemas" / "asyncapi.json")
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
