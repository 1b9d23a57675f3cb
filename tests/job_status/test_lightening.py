"""Without its preview a job status is the same one, and conforms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from bridge.job_status import JobStatus, without_preview
from tests.job_status.test_conforming import LARGE_PREVIEW, REQUEST_ID, event
from tests.job_status.test_contract import OBJECTS, events, judge, outcome


@settings(max_examples=400, deadline=None)
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


def test_key_written_with_escapes_is_found() -> None:
    """A preview goes though its key is written so that only a decoder sees it."""
    text = json.dumps(event(preview="a")).replace('"preview', '"\\u0070review')
    text = text.replace("{", '{"x": 1.50, ')
    lightened = without_preview(text.encode())
    assert json.loads(lightened) == event(preview=None, x=1.5)
    assert b'"x":1.50' in lightened


def test_status_without_a_preview_stays_the_same_object() -> None:
    """Where there is nothing to take out nothing is made anew."""
    value = json.dumps(event()).encode()
    assert without_preview(value) is value


def test_large_preview_leaves_a_small_status() -> None:
    """What remains of 90 KB is a line."""
    lightened = without_preview(json.dumps(event(preview=LARGE_PREVIEW)).encode())
    assert len(lightened) < 200
    assert json.loads(lightened)["request_id"] == REQUEST_ID
