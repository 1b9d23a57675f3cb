"""Without its preview a job status is the same one, and conforms."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings

from bridge.job_status import JobStatus, take_preview, without_preview
from tests.job_status.test_conforming import LARGE_PREVIEW, REQUEST_ID, event
from tests.job_status.test_contract import OBJECTS, events, judge, outcome


@settings(max_examples=400)
@given(events() | OBJECTS)
def test_result_conforms_and_differs_in_the_preview_alone(data: object) -> None:
    """Of whatever became a record the preview goes, and nothing else."""
    status = outcome(data)
    if not isinstance(status, JobStatus):
        return
    record = judge(status.value)
    lightened = without_preview(status.value)
    assert judge(lightened) == {**record, "preview": None}
    assert list(judge(lightened)) == list(record)
    assert (lightened == status.value) is not status.has_preview


@pytest.mark.parametrize("preview", ['"PREVIEW"', r'"a\"b\\"', '""'])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(event(preview="HERE")),
        json.dumps(event(preview="HERE"), indent=4) + "\r\n\t ",
        json.dumps(event(preview="HERE")).replace('":', '" :\t'),
        json.dumps(event(preview="HERE", x=1e5, y=[{"z": None}])),
        json.dumps(event(preview="HERE", result_url="PREVIEW")),
        json.dumps({"x": {"preview": "PREVIEW"}, **event(preview="HERE")}),
        json.dumps({"x": '"preview": ', **event(preview="HERE")}),
        json.dumps(dict(reversed(event(preview="HERE").items()))),
    ],
)
def test_every_other_byte_stays(text: str, preview: str) -> None:
    """Spaces, order, numbers and members that nobody knows are as they were."""
    value = text.replace('"HERE"', preview).encode()
    assert without_preview(value) == text.replace('"HERE"', "null").encode()


def test_preview_of_a_member_nobody_knows_stays() -> None:
    """Of two equal previews the status's own goes, wherever they stand."""
    for members in (
        {"x": {"preview": "a"}, **event(preview="a")},
        {**event(preview="a"), "x": {"preview": "a"}},
    ):
        lightened = json.loads(without_preview(json.dumps(members).encode()))
        assert lightened == {**members, "preview": None}


@pytest.mark.parametrize("name", ["\\u0070review", "pre\\u0076iew"])
@pytest.mark.parametrize("before", ["1.50", '["preview", {"preview": "a"}]', r'"\""'])
def test_key_written_with_escapes_is_found(name: str, before: str) -> None:
    """A preview goes though its key is written so that only a decoder sees it."""
    text = json.dumps(event(preview="HERE")).replace('"preview', f'"{name}')
    text = text.replace("{", f'{{"x" : {before}, "pre\\n\\"view": {{}},')
    value = text.replace("HERE", "a").encode()
    assert without_preview(value) == text.replace('"HERE"', "null").encode()


@pytest.mark.parametrize(
    "before",
    [
        '"x":[' + '{"preview":"a"},' * 50_000 + "0]",
        ",".join(f'"x{number}":[]' for number in range(50_000)),
        '"' + "x" * 500_000 + '":null',
        '"' + "\\u0061" * 80_000 + '":null',
        '"x":"' + '\\"' * 250_000 + '"',
    ],
    ids=["previews", "members", "long key", "escaped key", "escaped text"],
)
def test_what_stands_before_a_preview_is_crossed_once(before: str) -> None:
    """The time grows as the event does: half a megabyte takes no second."""
    text = f"{{{before},{json.dumps(event(preview='HERE'))[1:]}"
    value = text.replace("HERE", "a").encode()
    begun = time.process_time()
    lightened = without_preview(value)
    assert time.process_time() - begun < 1
    assert lightened == text.replace('"HERE"', "null").encode()


@pytest.mark.parametrize("preview", ["", "plain", 'a"b\\c\n', "\N{SNOWMAN}", "\0"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_preview_that_is_taken_is_what_a_decoder_reads(
    preview: str, *, is_ascii: bool
) -> None:
    """With its escapes undone, however it was written."""
    value = json.dumps(event(preview=preview), ensure_ascii=is_ascii).encode()
    assert take_preview(value) == (preview, without_preview(value))


def test_status_without_a_preview_stays_the_same_object() -> None:
    """Where there is nothing to take out nothing is made anew."""
    value = json.dumps(event()).encode()
    assert without_preview(value) is value


def test_large_preview_leaves_a_small_status() -> None:
    """What remains of 90 KB is a line."""
    lightened = without_preview(json.dumps(event(preview=LARGE_PREVIEW)).encode())
    assert len(lightened) < 200
    assert json.loads(lightened)["request_id"] == REQUEST_ID
