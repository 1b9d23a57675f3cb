"""A newer schema is compatible if readers of an older one notice nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.contract.compatibility import breaches
from tests.contract.drawing import drawn


OLDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
        "word": {"enum": ["one", "two"]},
        "count": {"type": "number", "minimum": 0, "maximum": 9},
        "note": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
        "fixed": {"const": "x"},
        "more": {"type": "string"},
        "part": {"$ref": "#/$defs/Part"},
        "list": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "word"],
    "additionalProperties": True,
    "$defs": {"Part": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


def changed(name: str, **keywords: Any) -> dict[str, Any]:
    """Give the schema with some keywords of a member replaced; None takes one away."""
    member = OLDER["properties"][name] | keywords
    return whole(**{name: {k: v for k, v in member.items() if v is not None}})


def whole(**members: Any) -> dict[str, Any]:
    """Give the schema with other members."""
    return OLDER | {"properties": OLDER["properties"] | members}


def found(newer: Any, older: Any = None) -> list[str]:
    """Give the breaches as lines."""
    return [str(breach) for breach in breaches(newer, older or OLDER)]


@pytest.mark.parametrize(
    "newer",
    [
        OLDER,
        whole(added={"type": "integer"}),
        OLDER | {"required": ["id", "word", "more"]},
        OLDER | {"additionalProperties": False},
        OLDER | {"description": "other words", "title": "T", "examples": [1]},
        changed("id", maxLength=4, minLength=2),
        changed("id", const="abc", pattern=None, maxLength=8),
        changed("word", enum=["two"]),
        changed("word", enum=None, const="one"),
        changed("count", type="integer", minimum=1, maximum=8),
        whole(note={"type": "null"}),
        whole(note={"anyOf": [{"type": "null"}, {"type": "string", "format": "uri"}]}),
        whole(note={"type": "string", "format": "uri", "maxLength": 3}),
        whole(more={"type": "string", "pattern": "^x"}),
        whole(part={"type": "object", "properties": {"n": {"const": 3}}}),
        whole(part=False),
    ],
    ids=repr,
)
def test_narrower_schema_breaks_nothing(newer: dict[str, Any]) -> None:
    """What allows the same or less, or only says it otherwise, is let through."""
    assert found(newer) == []


@pytest.mark.parametrize(
    ("newer", "line"),
    [
        (OLDER | {"required": ["id"]}, "word: is no longer always there"),
        (changed("id", type="integer"), "id: type was 'string', now it is 'integer'"),
        (
            changed("id", pattern=None),
            "id: pattern was '^[a-z]+$', nothing says so now",
        ),
        (
            changed("id", pattern="^[a-z0-9]+$"),
            "id: pattern was '^[a-z]+$', now it is '^[a-z0-9]+$'",
        ),
        (changed("id", maxLength=9), "id: maxLength was 8, now it is 9"),
        (changed("id", maxLength=None), "id: maxLength was 8, nothing says so now"),
        (
            changed("word", enum=["one", "two", "three"]),
            "word: enum was ['one', 'two'], now it is ['one', 'two', 'three']",
        ),
        (
            changed("word", enum=None),
            "word: enum was ['one', 'two'], nothing says so now",
        ),
        (changed("count", minimum=-1), "count: minimum was 0, now it is -1"),
        (changed("count", maximum=9.5), "count: maximum was 9, now it is 9.5"),
        (
            changed("note", anyOf=[{"type": "string"}, {"type": "null"}]),
            "note: {'type': 'string'} is allowed now",
        ),
        (
            whole(note={"type": ["string", "integer", "null"], "format": "uri"}),
            "note: {'format': 'uri', 'type': 'integer'} is allowed now",
        ),
        (changed("fixed", const="y"), "fixed: const was 'x', now it is 'y'"),
        (changed("fixed", const=None), "fixed: const was 'x', nothing says so now"),
        (
            whole(more={"type": ["string", "null"]}),
            "more: type was 'string', now it is 'null'",
        ),
        (
            {**OLDER, "properties": {"id": OLDER["properties"]["id"]}},
            "fixed: const was 'x', nothing says so now",
        ),
        (
            OLDER | {"$defs": {"Part": {"type": "object"}}},
            "part.n: type was 'integer', nothing says so now",
        ),
        (
            whole(list={"type": "array", "items": {"type": "integer"}}),
            "list[]: type was 'string', now it is 'integer'",
        ),
        (
            whole(list={"type": "array"}),
            "list[]: type was 'string', nothing says so now",
        ),
        (OLDER | {"type": "array"}, "the record: type was 'object', now it is 'array'"),
        (
            OLDER | {"patternProperties": {"^i": True}},
            "the record: patternProperties can't be judged",
        ),
        (
            whole(part={"$ref": "https://example.org/other"}),
            "part: its references can't be followed",
        ),
    ],
)
def test_each_kind_of_breach_is_named(newer: dict[str, Any], line: str) -> None:
    """What a reader of the older schema would stumble over is said, with its place."""
    assert line in found(newer)


def test_closed_object_takes_no_new_member() -> None:
    """Where nothing beside was allowed, a new member is a breach."""
    older = OLDER | {"additionalProperties": False}
    newer = older | {"properties": OLDER["properties"] | {"added": {"type": "string"}}}
    assert found(newer, older) == [
        "added: nothing was allowed here, and now something is"
    ]
    assert found(OLDER, older) == ["*: nothing was allowed here, and now something is"]


@pytest.mark.parametrize("keyword", ["not", "if", "oneOf", "allOf", "contains"])
def test_keyword_that_nobody_compares_is_reported(keyword: str) -> None:
    """A keyword that the comparison doesn't know proves nothing, the same one too."""
    older = OLDER | {keyword: {"required": ["more"]}}
    assert found(older, older) == [f"the record: {keyword} can't be judged"]


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ({"const": True}, {"const": 1}),
        ({"const": "a\n"}, {"pattern": "^a$"}),
        ({"maxLength": 5}, {"maxLength": 2, "anyOf": [{"maxLength": 5}]}),
        # The member isn't named beside the word that forbids all others.
        (
            {"properties": {"a": True}, "additionalProperties": False},
            {"properties": {"a": True}, "anyOf": [{"additionalProperties": False}]},
        ),
    ],
    ids=repr,
)
def test_what_only_looks_alike_is_a_breach(newer: Any, older: Any) -> None:
    """True is not 1, a line's end is a character, and two words are not one."""
    assert found(newer, older)


def test_case_that_can_never_be_is_passed_over() -> None:
    """One of several that allows nothing changes nothing."""
    assert found({"anyOf": [False, {"const": "a"}]}, {"const": "a"}) == []


def test_schema_that_refers_to_itself_ends() -> None:
    """A tree without an end is reported instead of followed."""
    tree = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {"type": "object", "properties": {"t": {"$ref": "#/$defs/Tree"}}}
        },
    }
    (line,) = found(tree, tree)
    assert line.endswith("it is nested too deep to be judged")


PARTS = st.recursive(
    st.one_of(
        st.sampled_from(
            [
                True,
                {"type": "null"},
                {"type": "boolean"},
                {"const": "a"},
                {"const": 1},
                {"enum": ["a", "b", None]},
                {"enum": ["a", True, 1]},
                {"type": "string", "pattern": "^a"},
                {"type": "string", "pattern": "^[ab]+$"},
                {"type": "string", "maxLength": 2},
                {"type": "string", "enum": ["a", "bb"]},
                {"type": "integer", "minimum": 0},
                {"type": "number", "minimum": 1, "maximum": 3},
                {"type": "number"},
                {"type": "string"},
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(
                    st.sampled_from("abc"), inner, max_size=3
                ),
                "required": st.lists(st.sampled_from("ab"), unique=True),
            },
            optional={"additionalProperties": inner | st.just(value=False)},
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@given(data=st.data(), newer=PARTS, older=PARTS)
def test_no_breach_means_that_older_readers_take_newer_records(
    data: st.DataObject, newer: Any, older: Any
) -> None:
    """Wherever the comparison finds nothing, an independent validator agrees."""
    if found({"properties": {"x": newer}}, {"properties": {"x": older}}):
        return
    record = data.draw(drawn(newer))
    if Draft202012Validator(newer).is_valid(record):
        Draft202012Validator(older).validate(record)


@settings(max_examples=200)
@given(PARTS)
def test_schema_is_compatible_with_itself(schema: Any) -> None:
    """No change is no breach, whatever the schema: false alarms have a limit."""
    assert found({"properties": {"x": schema}}, {"properties": {"x": schema}}) == []
