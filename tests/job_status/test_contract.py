"""
The promise to readers, judged from outside: by the file and an own reading of JSON.

The judge here shares no code with the parser: it reads `schemas/` with the
`jsonschema` library and JSON with the standard library.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.errors import InvalidEventError
from bridge.job_status import STATUSES, JobStatus, parse
from bridge.job_status.exact import parse_text
from tests.previews.images import KINDS, SPELLINGS, image


SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "job-status.schema.json").read_text(
        encoding="utf-8"
    )
)

# A limit that generated events cross now and then.
MAX_BYTES = 20_000


def _like_ecma(schema: Any) -> Any:
    """Give the schema with `$` as JSON Schema means it: Python's is laxer."""
    if isinstance(schema, dict):
        return {
            name: value.removesuffix("$") + r"\Z"
            if name == "pattern" and isinstance(value, str)
            else _like_ecma(value)
            for name, value in schema.items()
        }
    return [_like_ecma(item) for item in schema] if isinstance(schema, list) else schema


VALIDATOR = Draft202012Validator(_like_ecma(copy.deepcopy(SCHEMA)))


class UnfitError(Exception):
    """The judge's verdict on a text that is no strict JSON."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise UnfitError("a key stands there twice")
    return dict(pairs)


def _finite(literal: str) -> Decimal:
    if abs(float(literal)) == float("inf"):
        raise UnfitError("a number is too large for a double")
    return Decimal(literal)


def _no_constant(name: str) -> None:
    raise UnfitError(name)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def judge(data: bytes) -> dict[str, Any]:
    """
    Read what a reader of the topic would read.

    Returns:
        The record, numbers as Decimal.

    Raises:
        UnfitError: The bytes break the contract.
    """
    try:
        text = data.decode()
        record = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_finite,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except ValueError as error:
        raise UnfitError(str(error)) from error
    problems = list(VALIDATOR.iter_errors(record))
    if problems:
        raise UnfitError(problems[0].message)
    if _depth(record) > 64:
        raise UnfitError("too deep")
    assert isinstance(record, dict)
    return record


# Characters that matter to JSON, UTF-8 or the contract, beside any other.
TEXTS = st.text(
    st.sampled_from('"\\/:,{}[] \n\t\x00\x7f\x85\ud800\udc00\U0001f600aé')
    | st.characters(codec=None)
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e999", "-1E400", "0.10", "-0", "1e-400", "1" * 320, "1" * 4400]),
)
SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false"]),
    NUMBERS,
    st.builds(json.dumps, TEXTS, ensure_ascii=st.booleans()),
)
LITERALS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(TEXTS, inner)).map(
            lambda pairs: (
                "{" + ",".join(f"{json.dumps(k)}:{value}" for k, value in pairs) + "}"
            )
        ),
    ),
    max_leaves=8,
)
LONG_TEXTS = st.builds(
    lambda text, size: json.dumps(text * (size // len(text))),
    TEXTS.filter(bool),
    st.sampled_from([1000, 3000, 5000, 12_000]),
)
# Images of every kind in every spelling, whole, called something else or spoilt; some
# write a slash with its escape, as PHP does.
PREVIEWS = st.builds(
    lambda kind, claimed, side, spell, cut, slash: json.dumps(
        spell(image(kind, side), claimed)[cut:]
    ).replace("/", slash),
    st.sampled_from(list(KINDS)),
    st.sampled_from([*KINDS, "image/svg+xml", "text/plain"]),
    st.sampled_from([1, 16, 64]),
    st.sampled_from(list(SPELLINGS.values())),
    st.sampled_from([0, 0, 0, 1, 40]),
    st.sampled_from(["/", r"\/"]),
)
FIELDS = {
    "request_id": st.one_of(
        st.uuids().map(lambda uuid: f'"{uuid}"'),
        st.builds(json.dumps, TEXTS, ensure_ascii=st.booleans()),
        LITERALS,
    ),
    "status": st.sampled_from(
        [*(json.dumps(status) for status in STATUSES), '"pending"', "1"]
    ),
    "preview": st.one_of(st.just("null"), SCALARS, LONG_TEXTS, LITERALS, PREVIEWS),
    "result_url": st.one_of(st.just("null"), SCALARS, LONG_TEXTS),
    "progress": st.one_of(
        st.decimals(0, 100, places=2).map(lambda number: f'"{number}"'),
        st.just("null"),
        NUMBERS,
        SCALARS,
    ),
    "error_code": SCALARS,
    "error_message": SCALARS,
}
REQUIRED = ("request_id", "status", "preview", "result_url", "progress")
SPACES = st.sampled_from(["", "", " ", "\n", "\t "])


@st.composite
def conforming_members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draw the members of an event that mostly conforms: key and literal."""
    members = [
        ("request_id", draw(st.uuids().map(lambda uuid: f'"{uuid}"'))),
        ("status", draw(st.sampled_from([json.dumps(item) for item in STATUSES]))),
        (
            "preview",
            draw(st.just("null") | LONG_TEXTS | TEXTS.map(json.dumps) | PREVIEWS),
        ),
        ("result_url", draw(st.just("null") | TEXTS.map(json.dumps))),
        (
            "progress",
            draw(
                st.just("null")
                | st.decimals(0, 100, places=2).map(lambda number: f'"{number}"')
            ),
        ),
    ]
    return draw(st.permutations(members))


@st.composite
def any_members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draw members of any kind: left out, repeated, unknown, of a wrong type."""
    names = draw(
        st.lists(st.sampled_from(list(FIELDS)), max_size=4).map(
            lambda more: [*REQUIRED, *more]
        )
        | st.lists(st.sampled_from(list(FIELDS)))
    )
    members = [(name, draw(FIELDS[name])) for name in names]
    return draw(st.permutations(members))


@st.composite
def events(draw: st.DrawFn) -> str:
    """Draw the text of an event, spaced and cut anyhow."""
    members = draw(conforming_members() | any_members())
    members += draw(st.lists(st.tuples(TEXTS, LITERALS), max_size=2))
    space = draw(SPACES)
    inner = f"{space},{space}".join(
        f"{json.dumps(name)}{space}:{space}{literal}" for name, literal in members
    )
    text = f"{space}{{{inner}}}{space}"
    if draw(st.integers(0, 9)) == 9:
        text += draw(st.sampled_from(["x", "\x00", "{}", ",", "\x0c"]))
    if draw(st.integers(0, 19)) == 19:
        text = text[: draw(st.integers(0, len(text)))]
    return text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.text(min_size=1) | JSON_VALUES,
        "status": st.sampled_from(STATUSES) | JSON_VALUES,
        "preview": st.none() | TEXTS | JSON_VALUES,
        "result_url": st.none() | TEXTS,
        "progress": st.floats(0, 100) | st.just("1.00") | JSON_VALUES,
        "more": JSON_VALUES,
    },
)


def outcome(
    data: Any, parser: Callable[[Any, int], JobStatus] = parse
) -> JobStatus | InvalidEventError:
    """Give what the parser makes of the data; anything else raised fails the test."""
    try:
        return parser(data, MAX_BYTES)
    except InvalidEventError as error:
        return error


def verdict(result: JobStatus | InvalidEventError) -> object:
    """Give an outcome as something that can be compared."""
    if isinstance(result, JobStatus):
        return result
    return result.reason, str(result), result.original, result.request_id


@settings(max_examples=400)
@given(events())
@example('{"request_id":"a","status":"done","preview":[],"result_url":"","progress":1}')
def test_text_passes_untouched_exactly_if_it_conforms(text: str) -> None:
    """The judge and the parser agree on every event, in both directions."""
    result = outcome(text)
    original = text.encode("utf-8", "surrogatepass")
    try:
        record = judge(original)
    except UnfitError:
        conforms = False
    else:
        conforms = len(original) <= MAX_BYTES
    if conforms:
        assert isinstance(result, JobStatus)
        assert result.value == original
        assert result.request_id == record["request_id"]
        assert result.status == record["status"]
    untouched = isinstance(result, JobStatus) and not result.normalized
    assert untouched == conforms


@settings(max_examples=400)
@given(events() | TEXTS | OBJECTS | JSON_VALUES)
def test_every_input_has_one_outcome_that_keeps_the_contract(data: object) -> None:
    """Whatever comes is a record that validates, or refused with its bytes."""
    result = outcome(data)
    if isinstance(result, JobStatus):
        record = judge(result.value)
        assert len(result.value) <= MAX_BYTES
        assert record["request_id"] == result.request_id
        assert record["status"] == result.status
        assert result.key == result.request_id.encode()
    elif isinstance(data, str):
        assert result.original == data.encode("utf-8", "surrogatepass")
    assert isinstance(result, JobStatus) or len(str(result)) <= 300


@settings(max_examples=400)
@given(events())
def test_short_way_decides_as_the_long_way(text: str) -> None:
    """The proof that saves time changes no outcome."""
    assert verdict(outcome(text)) == verdict(outcome(text, parse_text))


@settings(max_examples=200)
@given(events() | OBJECTS)
def test_what_was_normalised_passes_untouched_the_next_time(data: object) -> None:
    """Normalising is done once: its result conforms by itself."""
    result = outcome(data)
    if isinstance(result, JobStatus):
        again = parse(result.value.decode(), MAX_BYTES)
        assert again.value == result.value
        assert again.normalized == ()


def test_judge_sees_what_it_is_trusted_to_see() -> None:
    """The judge refuses each breach, so that its agreement means something."""
    good = (
        '{"request_id":"a","status":"done","preview":null,"result_url":null,'
        '"progress":"1.00"}'
    )
    judge(good.encode())
    for bad in (
        good.replace('"a"', '""'),
        good.replace('"a"', '"a\\n"'),
        good.replace("done", "pending"),
        good.replace('"1.00"', "1.00"),
        good.replace('"1.00"', '"1.00\\n"'),
        good.replace('"preview":null,', ""),
        good.replace("null", '"\\ud800"', 1),
        good[:-1] + ',"progress":"1.00"}',
        good[:-1] + ',"x":1e999}',
        good[:-1] + ',"x":NaN}',
        good[:-1] + ',"x":' + "[" * 64 + "]" * 64 + "}",
        good + "x",
    ):
        try:
            judge(bad.encode())
        except UnfitError:
            continue
        raise AssertionError(f"the judge took {bad}")
