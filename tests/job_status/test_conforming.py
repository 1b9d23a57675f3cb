"""Events that conform go through untouched, and only those do."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest

from bridge.errors import DeadLetterReason, InvalidEventError
from bridge.job_status import DEFAULT_MAX_BYTES, parse
from bridge.job_status.conforming import _LARGE_BYTES, _count_quotes


REQUEST_ID = "123e4567-e89b-12d3-a456-426614174000"

# As upstream's documentation shows it.
DOCUMENTED = """{
"request_id": "123e4567-e89b-12d3-a456-426614174000",
"status": "in_progress",
"preview": "data:image/jpeg;base64,/9j/4AAQSkZJRg...",
"result_url": null,
"progress": "45.50"
}"""

LARGE_PREVIEW = "data:image/jpeg;base64," + base64.b64encode(bytes(67_500)).decode()


def event(**members: Any) -> dict[str, Any]:
    """Give a conforming event with some members changed."""
    return {
        "request_id": REQUEST_ID,
        "status": "in_progress",
        "preview": None,
        "result_url": None,
        "progress": "45.50",
        **members,
    }


def test_documented_event_passes_untouched() -> None:
    """The event of upstream's documentation keeps each of its bytes."""
    status = parse(DOCUMENTED)
    assert status.value == DOCUMENTED.encode()
    assert status.normalized == ()
    assert status.request_id == REQUEST_ID
    assert status.key == REQUEST_ID.encode()
    assert status.status == "in_progress"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(event()),
        json.dumps(event(), separators=(",", ":")),
        json.dumps(event(), indent=4) + "\r\n\t ",
        json.dumps(dict(reversed(event().items()))),
        json.dumps(event(status="done", result_url="https://a.example/1?s=x&y")),
        json.dumps(event(status="error", error_code="X", error_message='a "b"')),
        json.dumps(event(status="error", error_code=None)),
        json.dumps(event(progress=None)),
        json.dumps(event(progress="0")),
        json.dumps(event(preview="")),
        json.dumps(event(preview='a"b\\')),
        json.dumps(event(preview=LARGE_PREVIEW)),
        json.dumps(event(preview=LARGE_PREVIEW)).replace("/", "\\/"),
        json.dumps(event(preview=LARGE_PREVIEW, x="y")),
        json.dumps(event(result_url="x" * 5000)),
        json.dumps(event(preview="\N{SNOWMAN} \U0001f600"), ensure_ascii=False),
        json.dumps(event(preview="\N{SNOWMAN} \U0001f600")),
        json.dumps(event(request_id="j\N{LATIN SMALL LETTER O WITH DIAERESIS}b 1")),
        json.dumps(event(request_id="not\N{NO-BREAK SPACE}printable for Python")),
        json.dumps(event(request_id="i" * 256)),
        json.dumps(event(unknown={"a": [1, 2.50, True, None, {"b": "c"}]})),
        json.dumps(event())[:-1] + ', "big": 123456789012345678901234567890, "e":1E5}',
        json.dumps(event()).replace("status", "\\u0073tatus"),
        json.dumps(event()).replace('":', '" :'),
    ],
)
def test_conforming_text_passes_untouched(text: str) -> None:
    """However it is written, what conforms keeps each of its bytes."""
    status = parse(text)
    assert status.value == text.encode()
    assert status.normalized == ()


@pytest.mark.parametrize("padding", ["", "x" * _LARGE_BYTES])
@pytest.mark.parametrize(
    "member",
    ['"status":"done"', '"status" :"done"', '"st\\u0061tus":"done"', '"x":1,"x":2'],
)
def test_repeated_member_never_passes_untouched(padding: str, member: str) -> None:
    """A key that stands there twice is seen however it is written, at any size."""
    text = json.dumps(event(preview=padding))[:-1] + f",{member}}}"
    status = parse(text)
    assert status.normalized == ("duplicate_key",)
    assert json.loads(status.value) == json.loads(text)


@pytest.mark.parametrize("preview", ["[]", "{}", '["x"]', "12", "true", '{"a":1}'])
def test_preview_of_another_type_is_refused_at_any_size(preview: str) -> None:
    """A preview that is no text is invalid, in large events as in small ones."""
    for result_url in ("", "u" * _LARGE_BYTES):
        text = json.dumps(event(result_url=result_url))
        with pytest.raises(InvalidEventError, match="preview is a") as caught:
            parse(text.replace('"preview": null', f'"preview": {preview}'))
        assert caught.value.reason is DeadLetterReason.INVALID_FIELD
        assert caught.value.request_id == REQUEST_ID


def test_size_limit_counts_bytes_of_utf8() -> None:
    """An event of exactly the limit passes, one byte more is too large."""
    text = json.dumps(event(preview="\N{SNOWMAN}" * 3000), ensure_ascii=False)
    size = len(text.encode())
    assert size > len(text)
    assert parse(text, size).value == text.encode()
    with pytest.raises(InvalidEventError) as caught:
        parse(text, size - 1)
    assert caught.value.reason is DeadLetterReason.TOO_LARGE
    assert caught.value.request_id == REQUEST_ID
    assert caught.value.original == text.encode()


def test_five_megabytes_are_too_large_by_default() -> None:
    """An event that no topic takes by default is refused, with its job."""
    text = json.dumps(event(preview="A" * 5_000_000))
    assert len(text) > DEFAULT_MAX_BYTES
    with pytest.raises(InvalidEventError, match="more than 1000000") as caught:
        parse(text)
    assert caught.value.reason is DeadLetterReason.TOO_LARGE
    assert caught.value.request_id == REQUEST_ID


@pytest.mark.parametrize(
    "value",
    [b"", b'"' * 2000, b"x" * 2000, b'"a"' + b"x" * 2000 + b'"b"', b'x"' * 600],
)
def test_quotes_are_counted_exactly(value: bytes) -> None:
    """The count that skips is the count that doesn't."""
    assert _count_quotes(value) == value.count(b'"')


def test_preview_is_copied_once() -> None:
    """Of a large event there is one copy at any time: the value itself."""
    text = json.dumps(event(preview=LARGE_PREVIEW)).replace("/", "\\/")
    parse(text)
    tracemalloc.start()
    try:
        status = parse(text)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(status.value) < peak_bytes < 1.1 * len(status.value)
