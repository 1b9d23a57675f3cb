"""The schemas on disk are the ones that the types make."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from bridge.contract import PUBLISHED, PublishedSchema, text_of
from bridge.contract.json_schema import build


SCHEMAS = Path(__file__).parents[2] / "schemas"


class Inner(msgspec.Struct):
    """A part of a record."""

    size: int


class Outer(msgspec.Struct):
    """A record that has a record in it."""

    part: Inner


each_schema = pytest.mark.parametrize(
    "published", PUBLISHED, ids=lambda published: published.file_name
)


@each_schema
def test_schema_on_disk_is_current(published: PublishedSchema) -> None:
    """The committed file is what the type says today."""
    text = (SCHEMAS / published.file_name).read_text(encoding="utf-8")
    assert text == build(published)


@each_schema
def test_schema_is_a_schema(published: PublishedSchema) -> None:
    """An independent validator takes it for draft 2020-12, and it names itself."""
    schema = json.loads(build(published))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == published.urn
    assert "$ref" not in schema


@each_schema
def test_every_member_is_explained_by_valid_examples(
    published: PublishedSchema,
) -> None:
    """Each member has a description and examples, and all examples validate."""
    schema = json.loads(build(published))
    validator = Draft202012Validator(schema)
    assert schema["examples"]
    for example in schema["examples"]:
        validator.validate(example)
    for member in schema["properties"].values():
        assert member["description"]
        for example in member["examples"]:
            Draft202012Validator(member).validate(example)


@each_schema
def test_schema_refuses_what_breaks_it(published: PublishedSchema) -> None:
    """Leaving out a required member, or giving it another type, doesn't validate."""
    schema = json.loads(build(published))
    validator = Draft202012Validator(schema)
    record = schema["examples"][0]
    for name in schema["required"]:
        assert not validator.is_valid({k: v for k, v in record.items() if k != name})
        assert not validator.is_valid({**record, name: [5]})
    assert validator.is_valid({**record, "a member nobody knows": [1]})


@each_schema
def test_examples_are_the_type_s_own(published: PublishedSchema) -> None:
    """What the file shows decodes as the type that made it."""
    for example in json.loads(build(published))["examples"]:
        msgspec.convert(example, published.record)


def test_types_inside_a_record_are_defined_beside_it() -> None:
    """A record of records keeps the definitions that its members refer to."""
    published = PublishedSchema("x", 1, "X", Outer, (Outer(Inner(1)),))
    schema = json.loads(build(published))
    assert list(schema["$defs"]) == ["Inner"]
    Draft202012Validator(schema).validate({"part": {"size": 1}})
    assert not Draft202012Validator(schema).is_valid({"part": {"size": "1"}})


@each_schema
def test_text_is_given_by_name(published: PublishedSchema) -> None:
    """Whoever runs without the files has their text all the same."""
    assert text_of(published.name) == (SCHEMAS / published.file_name).read_text(
        encoding="utf-8"
    )


def test_unknown_name_is_an_error() -> None:
    """A text is not made up."""
    with pytest.raises(KeyError, match="nothing"):
        text_of("nothing")
