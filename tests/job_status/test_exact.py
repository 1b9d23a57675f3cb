"""Every deviation has its one outcome: passed, changed and noted, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import DeadLetterReason, InvalidEventError
from bridge.job_status import Change, parse
from bridge.job_status.exact import MAX_DEPTH
from tests.job_status.test_conforming import REQUEST_ID, event


def with_literal(name: str, literal: str) -> str:
    """Write an event whose member is exactly this text."""
    return json.dumps(event(**{name: "@"})).replace('"@"', literal)


def nested(depth: int) -> str:
    """Write an event whose deepest value lies that many levels deep."""
    return (
        json.dumps(event())[:-1] + ',"x":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    )


def refused(data: object, max_bytes: int = 1_000_000) -> InvalidEventError:
    """Give the error that refuses the data."""
    with pytest.raises(InvalidEventError) as caught:
        parse(data, max_bytes)
    return caught.value


@pytest.mark.parametrize(
    ("literal", "decimal"),
    [
        ("45.5", "45.50"),
        ("45.50", "45.50"),
        ("45.500", "45.50"),
        ("45", "45.00"),
        ("0", "0.00"),
        ("-0.0", "0.00"),
        ("0e9999999999999999999", None),
        ("100", "100.00"),
        ("1e2", "100.00"),
        ("33.333", "33.333"),
        ("45.123456789012345678901234567", "45.123456789012345678901234567"),
        ("1e-7", "0.0000001"),
        ("-1", None),
        ("1e40", None),
        ("1e-999999999", None),
        ("1e-9999999999999999999", None),
        ("0.1234567890123456789012345678901234567890", None),
    ],
)
def test_numeric_progress_becomes_a_decimal_string(
    literal: str, decimal: str | None
) -> None:
    """A number keeps its value as a string; one that is no progress is refused."""
    text = with_literal("progress", literal)
    if decimal is None:
        error = refused(text)
        assert error.reason is DeadLetterReason.INVALID_FIELD
        assert str(error).startswith("progress is a number")
    else:
        status = parse(text)
        assert json.loads(status.value) == event(progress=decimal)
        assert status.normalized == (Change.PROGRESS_NUMBER,)


def test_left_out_members_become_null() -> None:
    """What upstream left out is null, and nothing else is invented."""
    status = parse(json.dumps({"request_id": "a", "status": "processing"}))
    assert json.loads(status.value) == {
        "request_id": "a",
        "status": "processing",
        "preview": None,
        "result_url": None,
        "progress": None,
    }
    assert status.normalized == (Change.MISSING_FIELD,)


def test_repeated_key_keeps_the_last_value_at_any_depth() -> None:
    """The last of equal keys wins, and the record has each key once."""
    text = json.dumps(event())[:-1] + ',"x":[{"a":1,"b":2,"a":3}],"request_id":"last"}'
    status = parse(text)
    assert status.key == b"last"
    assert json.loads(status.value) == event(request_id="last", x=[{"a": 3, "b": 2}])
    assert status.value.count(b"request_id") == 1
    assert status.normalized == (Change.DUPLICATE_KEY,)


@pytest.mark.parametrize(
    ("literal", "repaired"),
    [
        ('"\\ud800"', "\ufffd"),
        ('"a\\udc00b"', "a\ufffdb"),
        ('"\\udc00\\ud800"', "\ufffd\ufffd"),
        ('"\ud83d\ude00"', "\U0001f600"),
        ('"\ud83d"', "\ufffd"),
    ],
)
def test_surrogates_are_repaired(literal: str, repaired: str) -> None:
    """Halves of a pair become one character, a half alone becomes U+FFFD."""
    for name in ("preview", "unknown"):
        status = parse(with_literal(name, literal))
        assert json.loads(status.value)[name] == repaired
        assert status.normalized == (Change.INVALID_UNICODE,)


def test_keys_that_repair_makes_equal_are_repeated_keys() -> None:
    """Two keys that differ only in broken halves are one key afterwards."""
    status = parse(json.dumps(event())[:-1] + ',"\\ud800":1,"\\ud801":2}')
    assert json.loads(status.value)["\ufffd"] == 2
    assert status.normalized == (Change.DUPLICATE_KEY, Change.INVALID_UNICODE)


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "1" * 400, "1" * 5000])
def test_number_out_of_range_becomes_null(literal: str) -> None:
    """A number that readers would take for infinity is null."""
    status = parse(with_literal("x", f"[{literal}]"))
    assert json.loads(status.value) == event(x=[None])
    assert status.normalized == (Change.NUMBER_OUT_OF_RANGE,)


def test_numbers_keep_their_digits_when_another_member_is_changed() -> None:
    """Changing one member costs no other a digit."""
    numbers = "[0.10, 1E+2, -0, 12345678901234567890.123456789012345678]"
    status = parse(with_literal("x", numbers).replace('"45.50"', "45.5"))
    assert status.normalized == (Change.PROGRESS_NUMBER,)
    assert numbers.replace(" ", "").encode() in status.value


@pytest.mark.parametrize("levels", [2, MAX_DEPTH])
def test_nesting_up_to_the_limit_passes_untouched(levels: int) -> None:
    """What every reader can read passes."""
    text = nested(levels)
    assert parse(text).value == text.encode()


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 5000, 200_000])
def test_deeper_nesting_is_refused_the_same_at_any_depth(levels: int) -> None:
    """Beyond the limit there is one outcome, whatever the decoders can take."""
    error = refused(nested(levels))
    assert error.reason is DeadLetterReason.TOO_DEEP
    assert error.request_id == REQUEST_ID
    assert error.original == nested(levels).encode()


def test_object_instead_of_string_is_written_down() -> None:
    """A `data` that is an object is taken, and noted."""
    status = parse(event(x=[1, {"a": "\N{SNOWMAN}"}]))
    assert json.loads(status.value) == event(x=[1, {"a": "\N{SNOWMAN}"}])
    assert status.normalized == (Change.DATA_NOT_STRING,)


def test_all_changes_are_noted_in_one_order() -> None:
    """Several changes are told together, in the vocabulary's order."""
    status = parse(
        {"request_id": "a", "status": "done", "progress": 1.5, "x": "\ud800"}
    )
    assert status.normalized == (
        Change.DATA_NOT_STRING,
        Change.INVALID_UNICODE,
        Change.MISSING_FIELD,
        Change.PROGRESS_NUMBER,
    )
    assert json.loads(status.value)["progress"] == "1.50"


def test_deep_object_instead_of_string_is_refused_with_its_text() -> None:
    """A value that recursion could not write down is a dead letter all the same."""
    value: Any = []
    for _ in range(20_000):
        value = [value]
    error = refused(event(x=value))
    assert error.reason is DeadLetterReason.TOO_DEEP
    assert error.request_id == REQUEST_ID
    assert error.original.endswith(b"[" * 20_001 + b"]" * 20_001 + b"}")


def test_event_encoded_twice_is_taken() -> None:
    """A string that holds the object as a string is read through."""
    text = json.dumps(json.dumps(event()))
    status = parse(text)
    assert json.loads(status.value) == event()
    assert status.normalized == (Change.ENCODED_TWICE,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "{",
        json.dumps(event())[:-1],
        json.dumps(event()) + "x",
        json.dumps(event()) + "\x00",
        "\ufeff" + json.dumps(event()),
        with_literal("x", "NaN"),
        with_literal("x", "-Infinity"),
        with_literal("x", "01"),
        with_literal("x", '"\t"'),
        with_literal("x", '"\\q"'),
        json.dumps(event()).replace('"', "'"),
        json.dumps(event())[:-1] + ",}",
        json.dumps('{"request_id": "a", '),
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    """Malformed text is refused with its bytes."""
    error = refused(text)
    assert error.reason is DeadLetterReason.NOT_JSON
    assert error.original == text.encode()


def test_job_is_found_in_malformed_text() -> None:
    """A dead letter of cut text still has its job where that is readable."""
    assert refused(json.dumps(event())[:-1]).request_id == REQUEST_ID
    assert refused('{"request_id": "a\\u0000"').request_id is None
    assert refused("{").request_id is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("null", "null"),
        ("5", "a number"),
        ("true", "a boolean"),
        ("[]", "an array"),
        ('"hello"', "a string"),
        (None, "null"),
        (5, "a number"),
        (1.5, "a number"),
        (True, "a boolean"),
        ([event()], "an array"),
    ],
)
def test_what_is_no_object_is_refused(data: object, kind: str) -> None:
    """Other JSON is refused, the message says what it is."""
    error = refused(data)
    assert error.reason is DeadLetterReason.NOT_AN_OBJECT
    assert str(error) == f"the event is {kind}, not an object"
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    assert error.original == text.encode()
    assert error.request_id is None


@pytest.mark.parametrize(
    ("request_id", "message"),
    [
        ("", "request_id is empty"),
        (5, "request_id is a number, not a string"),
        (None, "request_id is null, not a string"),
        (["a"], "request_id is an array, not a string"),
        ("a\x00", "request_id has control characters"),
        ("a\n", "request_id has control characters"),
        ("\x7f", "request_id has control characters"),
        ("\x85", "request_id has control characters"),
        ("i" * 257, "request_id has more than 256 characters"),
    ],
)
def test_unusable_request_id_is_refused(request_id: object, message: str) -> None:
    """An event that has no usable job is refused, and has no key."""
    error = refused(json.dumps(event(request_id=request_id)))
    assert error.reason is DeadLetterReason.MISSING_REQUEST_ID
    assert str(error) == message
    assert error.request_id is None


def test_missing_request_id_is_not_taken_from_elsewhere() -> None:
    """A request_id inside another member is not the event's."""
    error = refused(json.dumps({"status": "done", "x": {"request_id": "inner"}}))
    assert error.reason is DeadLetterReason.MISSING_REQUEST_ID
    assert str(error) == "request_id is missing"
    assert error.request_id is None


@pytest.mark.parametrize("status", ["pending", "DONE", "", "done ", 1, None, ["done"]])
def test_unknown_status_is_refused(status: object) -> None:
    """The statuses are a closed list; the error knows the job."""
    error = refused(json.dumps(event(status=status)))
    assert error.reason is DeadLetterReason.UNKNOWN_STATUS
    assert error.request_id == REQUEST_ID


def test_missing_status_is_refused() -> None:
    """An event without status says so."""
    error = refused(json.dumps({"request_id": REQUEST_ID}))
    assert error.reason is DeadLetterReason.UNKNOWN_STATUS
    assert str(error) == "status is missing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preview", 5),
        ("result_url", {"a": 1}),
        ("error_code", 17),
        ("error_message", []),
        ("progress", True),
        ("progress", [45.5]),
        ("progress", "45,5"),
        ("progress", "45.5%"),
        ("progress", ""),
        ("progress", "-1"),
        ("progress", "45.50\n"),
        ("progress", "1e2"),
        ("progress", "\N{ARABIC-INDIC DIGIT FOUR}"),
        ("progress", "1" * 33),
    ],
)
def test_member_of_wrong_type_is_refused(name: str, value: object) -> None:
    """A member that isn't what the contract says is refused and named."""
    error = refused(json.dumps(event(**{name: value})))
    assert error.reason is DeadLetterReason.INVALID_FIELD
    assert str(error).startswith(f"{name} is ")
    assert error.request_id == REQUEST_ID


def test_change_that_makes_an_event_too_large_is_seen() -> None:
    """The limit holds for what would be written, not only for what came."""
    text = json.dumps({"request_id": "a", "status": "done"}, separators=(",", ":"))
    error = refused(text, len(text))
    assert error.reason is DeadLetterReason.TOO_LARGE
    assert error.request_id == "a"
    assert error.original == text.encode()


def test_messages_tell_nothing_of_the_contents() -> None:
    """What an event holds stands in no message: messages go to headers and logs."""
    secret = "https://a.example/?signature=hush"
    for wrong in (
        json.dumps(event(status=secret)),
        json.dumps(event(progress=secret)),
        json.dumps(event(request_id=secret * 10)),
        json.dumps(event(preview=secret)) + secret,
        json.dumps(event(preview=[secret])),
        json.dumps(event(result_url={secret: secret})),
        json.dumps(secret),
    ):
        error = refused(wrong)
        assert "hush" not in str(error)
        assert "hush" not in repr(error)
        assert error.__context__ is None or "hush" not in str(error.__context__)
        assert len(str(error)) <= 300
