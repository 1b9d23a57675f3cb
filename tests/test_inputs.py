"""Each input that docs/consume/records.md lists, sent through `Intake`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bridge.events.record import Record
from tests.rules.drawing import frame_of
from tests.rules.intake import status
from tests.rules.reader import judge
from tests.rules.test_payload_properties import outlet_for


_PAGE = Path(__file__).parents[1] / "docs" / "consume" / "records.md"

_TABLE = re.compile(r"^\| input \| outcome \|\n.*\n((?:\|.*\n)+)", re.MULTILINE)
_ROW = re.compile(r"^\| (.+) \| (.+) \|$", re.MULTILINE)

# Above `drawing.MAX_BYTES`, the limit of events here.
_LARGE = "x" * 30_000

_CONTAINERS: tuple[Any, ...] = ([], {}, [1], {"a": "b"})


def _with(member: str) -> str:
    """Write a member behind those of a conforming event."""
    return f"{status()[:-1]},{member}}}"


def _lacking(*names: str) -> str:
    members = json.loads(status())
    return json.dumps({name: members[name] for name in members if name not in names})


def _nested(levels: int) -> str:
    """Write an event whose deepest array is so many levels down."""
    return _with('"x":' + "[" * (levels - 1) + "]" * (levels - 1))


# The rows' inputs, by what the rows call them; each of them has the row's outcome.
INPUTS: dict[str, list[Any]] = {
    # The payload.
    "a string that holds the object": [status(), status(status="error")],
    "the object itself instead of a string": [json.loads(status())],
    "a string that holds a string that holds the object": [json.dumps(status())],
    "spaces and line ends between tokens and around the object": [
        "\r\n\t " + json.dumps(json.loads(status()), indent=3) + " \n"
    ],
    "members in another order, or keys written with escapes": [
        json.dumps(dict(reversed(json.loads(status()).items()))),
        status().replace('"status"', r'"\u0073tatus"'),
    ],
    "an array, a number, a boolean or null": [
        *([1], 5, 1.5, True, None),
        *("[1]", "5", "true", "null"),
    ],
    "text that isn't JSON, is cut off or is empty": [
        *("no JSON", status()[:-1], "", "{", "'a'"),
        status().replace('"', "'"),
    ],
    "bytes after the object: a letter, a NUL, a second object": [
        status() + tail for tail in ("x", "\x00", "{}", ",", status())
    ],
    "a byte order mark before the object": ["\ufeff" + status()],
    "`NaN` or `Infinity` as a number": [
        _with(f'"x":{literal}') for literal in ("NaN", "Infinity", "-Infinity")
    ],
    "64 levels of nesting, the object being the first": [_nested(64)],
    "more than 64 levels": [_nested(65), _nested(5000), _nested(9000)],
    # Its members.
    "unknown members, of any type": [
        _with(f'"x":{literal}') for literal in ("1", '"a"', "[{}]", "null", "1.50")
    ],
    "no `preview`, `result_url` or `progress`": [
        _lacking("preview"),
        _lacking("result_url"),
        _lacking("progress"),
        _lacking("preview", "result_url", "progress"),
    ],
    "no `error_code` or `error_message`": [
        status(status="error", error_code="A"),
        status(status="error", error_code=None, error_message=None),
    ],
    "a key that appears twice, at any depth: the last one wins": [
        _with('"progress":"45.50"'),
        _with('"x":{"a":1,"a":2}'),
        _with('"x":[[{"a":1,"\\u0061":1}]]'),
    ],
    "half of a surrogate pair, in a string or a key: it becomes U+FFFD": [
        _with(r'"x":"\ud800"'),
        _with(r'"\udc00":1'),
        status(result_url="\ud800"),
    ],
    "a whole surrogate pair, written with escapes": [_with(r'"x":"\ud83d\ude00"')],
    "escaped control characters in other strings than `request_id`": [
        status(result_url="\x00\x1f\x7f", error_code="\n")
    ],
    "a number that no double can hold, `1e999` or 400 digits: it becomes null": [
        _with(f'"x":{literal}') for literal in ("1e999", "-1E400", "1" * 400)
    ],
    "a number with more digits than a double, or almost zero: every digit stays": [
        _with(f'"x":{literal}')
        for literal in (
            "12345678901234567890123",
            "0.10000000000000000000001",
            "1e-400",
        )
    ],
    # Known members.
    "`progress` as a number from 0 up: a decimal string with two decimals or more": [
        status(progress=number) for number in (45.5, 0, 7, 1e2, 33.333)
    ],
    "`progress` null": [status(progress=None)],
    "`progress` as a decimal string, above 100 too": [
        status(progress=text) for text in ("0", "45.50", "250.00", "7", "1" * 32)
    ],
    "`progress` as another string, below 0, or longer than 32 characters": [
        status(progress=text)
        for text in ("", "abc", "1e2", "-1", ".5", "5.", " 5", -1, "1" * 33)
    ],
    "`progress` as a boolean, array or object": [
        status(progress=value) for value in (True, *_CONTAINERS)
    ],
    "`request_id` with any characters but control characters, up to 256 of them": [
        status(request_id=text)
        for text in ("a", " ", "\N{SNOWMAN}/\\", "\U0001f600" * 256)
    ],
    "`request_id` missing, null, empty, a number, longer, or with control characters": [
        _lacking("request_id"),
        *(
            status(request_id=value)
            for value in (None, "", 5, "x" * 257, "a\n", "\x00", "\x85")
        ),
    ],
    "`status` that isn't one of the four, is missing or isn't a string": [
        _lacking("status"),
        *(status(status=value) for value in ("pending", "Done", "", None, 1, ["done"])),
    ],
    "`preview`, `result_url`, `error_code` or `error_message`"
    " as neither string nor null": [
        status(**{name: value})
        for name in ("preview", "result_url", "error_code", "error_message")
        for value in (5, True, *_CONTAINERS)
    ],
    # Sizes and previews.
    'any string as `preview`, with `previews = "inline"`': [
        status(preview=text) for text in ("", "no image", "data:image/jpeg;base64,/9j/")
    ],
    "larger than `limits.event_bytes`, and not without its preview": [
        status(preview=_LARGE),
        status(preview=_LARGE, status="done", x=1),
    ],
    "larger than `limits.event_bytes`, even without its preview": [
        status(result_url=_LARGE),
        status(preview=_LARGE, result_url=_LARGE),
    ],
    "larger than `limits.event_bytes`, and invalid for another reason": [
        status(preview=_LARGE, status="pending")
    ],
}


def _rows() -> dict[str, str]:
    return dict(_ROW.findall("".join(_TABLE.findall(_PAGE.read_text("utf-8")))))


def _outcome(record: Record) -> tuple[str, str | None]:
    """Return the outcome of an event, as the page names it."""
    headers = dict(record.extra)
    if record.topic == "jobs.dlq":
        return "dead letter", headers["bridge_reason"].decode()
    changes = headers.get("bridge_normalized")
    return ("untouched", None) if changes is None else ("changed", changes.decode())


def _flaw(payload: Any, became: str, word: str) -> str | None:
    """Send an event; return what is wrong with its outcome, if anything is."""
    [record] = outlet_for("inline").take(frame_of(payload, is_ascii=True))
    outcome, why = _outcome(record)
    if outcome != became or (word and why != word):
        return f"{outcome}: {why}"
    if became == "untouched" and record.value != payload.encode():
        return "other bytes"
    if became != "dead letter":
        judge(record.value)
    return None


def test_each_input_has_the_outcome_that_its_row_says() -> None:
    """Untouched bytes, the words of what was changed, or the reason; no row is left."""
    rows = _rows()
    assert set(rows) == set(INPUTS)
    wrong = []
    for row, payloads in INPUTS.items():
        became, _, word = rows[row].partition(": ")
        # A row that names no word may have any.
        named = word.strip("`") if word.startswith("`") else ""
        for payload in payloads:
            flaw = _flaw(payload, became, named)
            if flaw is not None:
                wrong.append((row, str(payload)[:80], flaw))
    assert wrong == []


def test_too_large_and_wrong_keeps_the_other_reason() -> None:
    """Its row names no word, since it may be any."""
    [payload] = INPUTS[
        "larger than `limits.event_bytes`, and invalid for another reason"
    ]
    assert _flaw(payload, "dead letter", "unknown_status") is None
