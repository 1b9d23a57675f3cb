"""What an answer says of a job, as an event that the intake takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bridge.reconciliation.answers import event_of, without_extras
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidAnswerError, InvalidEventError
from bridge.events.job_status import Change
from bridge.events.parsing import parse


# As dryAPI documents it.
DONE = {
    "status": "done",
    "preview": "https://cdn.test/preview?signature=hidden",
    "result_url": "https://cdn.test/result?signature=hidden",
    "results_alt_formats": {"jpg": "https://cdn.test/a.jpg", "webp": None},
    "result": None,
    "progress": 100.0,
}


def _body(**changes: Any) -> bytes:
    return json.dumps({"data": DONE | changes}).encode()


def _event(body: bytes) -> dict[str, Any]:
    event = event_of("job-1", body).event
    assert event is not None
    decoded: dict[str, Any] = json.loads(event)
    return decoded


def test_a_finished_job() -> None:
    """Its id is added, its preview goes, and what beside it isn't null stays."""
    answer = event_of("job-1", _body())
    assert answer.status == "done"
    assert _event(_body()) == {
        "request_id": "job-1",
        "status": "done",
        "preview": None,
        "result_url": DONE["result_url"],
        "results_alt_formats": DONE["results_alt_formats"],
        "progress": 100.0,
    }


def test_a_failed_job() -> None:
    """What dryAPI doesn't say is null; why it failed would pass."""
    failed = {"status": "error", "result_url": None, "results_alt_formats": None}
    assert _event(_body(**failed, progress=12.5)) == {
        "request_id": "job-1",
        "status": "error",
        "preview": None,
        "result_url": None,
        "progress": 12.5,
    }
    assert _event(_body(**failed, error_code="WORKER_TIMEOUT"))["error_code"] == (
        "WORKER_TIMEOUT"
    )


def test_a_job_that_waits_is_no_event() -> None:
    """`pending` is never pushed."""
    answer = event_of("job-1", _body(status="pending"))
    assert (answer.status, answer.event) == ("pending", None)


@pytest.mark.parametrize("status", ["in_progress", "cancelled", ""])
def test_another_status_is_left_to_the_intake(status: str) -> None:
    """It knows what becomes of it."""
    assert event_of("job-1", _body(status=status)).status == status
    assert _event(_body(status=status))["status"] == status


@pytest.mark.parametrize(
    ("literal", "published"),
    [("45.5", "45.50"), ("0.0", "0.00"), ("33.333333333333336", "33.333333333333336")],
)
def test_progress_is_the_number_that_it_was(literal: str, published: str) -> None:
    """The intake makes the decimal string of it and notes that."""
    body = f'{{"data":{{"status":"processing","progress":{literal}}}}}'.encode()
    event = event_of("job-1", body).event
    assert event is not None
    status = parse(event.decode())
    assert status.progress == published
    assert status.normalized == (Change.MISSING_FIELD, Change.PROGRESS_NUMBER)


def test_what_only_passes_through_can_be_left_out() -> None:
    """For a text that makes the event too large."""
    body = _body(result="a transcript " * 100, error_code="X", other=[1])
    event = event_of("job-1", body).event
    assert event is not None
    assert b"transcript" in event
    left = json.loads(without_extras(event))
    assert left == {
        "request_id": "job-1",
        "status": "done",
        "preview": None,
        "result_url": DONE["result_url"],
        "progress": 100.0,
        "error_code": "X",
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the answer is missing or no JSON object"),
        (b"<html>secret</html>", "the answer is missing or no JSON object"),
        (b"[]", "the answer is missing or no JSON object"),
        (b'{"data":{"status":"\xff"}}', "the answer is missing or no JSON object"),
        (b'{"data":{"status":"done","x":"\xff"}}', "no JSON object"),
        (b'{"data":' + b"[" * 90_000, "no JSON object"),
        (b'{"data":{"status":"secret"', "no JSON object"),
        (b"{}", "'data' is missing or no JSON object"),
        (b'{"data":null}', "'data' is missing or no JSON object"),
        (b'{"data":["secret"]}', "'data' is missing or no JSON object"),
        (b'{"data":{}}', "'status' is missing or no string"),
        (b'{"data":{"status":null}}', "'status' is missing or no string"),
        (b'{"data":{"status":{"secret":1}}}', "'status' is missing or no string"),
        (b'{"data":{"status":"\\ud800"}}', "no JSON object"),
        (b'{"data":{"status":"done","request_id":"secret"}}', "about another job"),
        (b'{"data":{"status":"done","request_id":7}}', "'request_id' is missing or no"),
    ],
)
def test_another_shape_is_an_error_without_contents(body: bytes, words: str) -> None:
    """It says what is wrong, and quotes nothing."""
    with pytest.raises(InvalidAnswerError, match=words) as caught:
        event_of("job-1", body)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_answer_may_name_the_job_that_was_asked_for() -> None:
    """It isn't documented, and does no harm."""
    assert _event(_body(request_id="job-1"))["request_id"] == "job-1"


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_names = st.sampled_from([*DONE, "request_id", "error_code"]) | st.text()
_data = st.dictionaries(_names, _values)


@given(st.binary() | st.builds(lambda data: json.dumps({"data": data}).encode(), _data))
def test_any_answer_is_an_event_or_an_error(body: bytes) -> None:
    """And an event is one for the intake: a record, or a dead letter."""
    try:
        answer = event_of("job-1", body)
    except InvalidAnswerError:
        return
    if answer.event is not None:
        for event in (answer.event, without_extras(answer.event)):
            try:
                status = parse(event.decode())
            except InvalidEventError as error:
                assert error.request_id in {"job-1", None}  # noqa: PT017
            else:
                assert status.request_id == "job-1"
                assert not status.has_preview
