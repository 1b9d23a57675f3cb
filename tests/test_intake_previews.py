"""Where previews go, and that no event is lost for the sake of one."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import pytest

from bridge import dead_letter
from bridge.errors import DeadLetterReason
from bridge.intake import Intake, lighten
from bridge.job_status import Change
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.record import Envelope, Importance, Record
from tests.previews.images import KINDS, SPELLINGS, data_uri, image
from tests.test_intake import RECEIVED_AT_US, SOURCE, Outlet, status


PICTURE = image("image/jpeg")
DIGEST = hashlib.sha256(PICTURE).hexdigest().encode()
MIB = 2**20


def topic_outlet(**options: Any) -> Outlet:
    """Give an intake that moves previews to a topic."""
    return Outlet(previews="topic", preview_topic="jobs.previews", **options)


def counted(numbers: dict[Any, int]) -> dict[Any, int]:
    """Leave out what is 0."""
    return {what: number for what, number in numbers.items() if number}


def without(payload: str) -> bytes:
    """Give the payload's bytes with null in its preview's place."""
    preview = json.dumps(json.loads(payload)["preview"])
    return payload.replace(preview, "null").encode()


# -- inline ----------------------------------------------------------------------


@pytest.mark.parametrize("preview", [data_uri(PICTURE), "no image", "", None])
def test_inline_lets_any_preview_through_untouched(preview: str | None) -> None:
    """Nobody looks into it: the value has the event's own bytes."""
    payload = status(preview=preview)
    outlet = Outlet()
    [record] = outlet.accept(payload)
    assert record.value == payload.encode()
    assert record.extra == ()
    assert outlet.intake.statistics.previews == 0


# -- drop ------------------------------------------------------------------------


def test_drop_makes_null_of_a_preview_and_says_so() -> None:
    """Every other byte stays; an event without a preview is untouched."""
    payload = status(preview=data_uri(PICTURE), more=[1.50, "\N{SNOWMAN}"])
    outlet = Outlet(previews="drop")
    record, other = outlet.accept(payload, status())
    assert record.value == without(payload)
    assert record.extra == (("bridge_normalized", b"preview_omitted"),)
    assert record.importance is Importance.EVENT
    assert other.value == status().encode()
    assert other.extra == ()
    assert counted(outlet.intake.statistics.normalized) == {Change.PREVIEW_OMITTED: 1}
    assert outlet.intake.statistics.previews == 0


def test_drop_tells_of_other_changes_first() -> None:
    """What was changed already stands in the same header."""
    [record] = Outlet(previews="drop").accept(status(preview="p", progress=1))
    assert record.extra == (("bridge_normalized", b"progress_number,preview_omitted"),)
    assert json.loads(record.value)["preview"] is None


# -- topic -----------------------------------------------------------------------


def test_topic_makes_two_records_of_an_event_with_a_preview() -> None:
    """The image comes first; key and digest refer from one to the other."""
    payload = status(preview=data_uri(PICTURE))
    outlet = topic_outlet()
    picture, record = outlet.accept(payload)
    assert picture == Record(
        topic="jobs.previews",
        key=b"job-1",
        value=PICTURE,
        received_at_us=RECEIVED_AT_US,
        envelope=Envelope(
            ce_source=SOURCE,
            ce_type="dev.dryapi.request.preview",
            origin="socket",
            content_type="image/jpeg",
            kind="preview",
        ),
        extra=(("bridge_preview_sha256", DIGEST),),
        importance=Importance.PICTURE,
    )
    assert record.topic == "jobs"
    assert record.key == b"job-1"
    assert record.value == without(payload)
    assert record.extra == (
        ("bridge_normalized", b"preview_moved"),
        ("bridge_preview_sha256", DIGEST),
    )
    assert record.importance is Importance.EVENT
    assert (record.status, record.progress) == ("in_progress", "45.50")
    statistics = outlet.intake.statistics
    assert (statistics.accepted, statistics.previews) == (1, 1)
    assert counted(statistics.normalized) == {Change.PREVIEW_MOVED: 1}
    assert counted(statistics.dead_letters) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_topic_takes_every_kind_in_every_spelling(kind: str, spelling: str) -> None:
    """The value is the image itself, its type what the bytes are."""
    data = image(kind)
    picture, _ = topic_outlet().accept(status(preview=SPELLINGS[spelling](data, kind)))
    assert picture.value == data
    assert picture.envelope.content_type == kind


def test_topic_moves_the_preview_of_a_job_s_end_too() -> None:
    """The end itself stays the end: it is as important as ever."""
    picture, record = topic_outlet().accept(
        status(status="done", preview=data_uri(PICTURE))
    )
    assert picture.importance is Importance.PICTURE
    assert record.importance is Importance.TERMINAL
    assert lighten(record) is None
    assert lighten(picture) is None


def test_topic_gets_no_preview_of_a_job_that_has_ended() -> None:
    """Judged with its event, it is a dead letter too: the image, named as one."""
    order = Order(Jobs(), partial(dead_letter.late, topic="jobs.dlq", max_bytes=MIB))
    preview = data_uri(PICTURE)
    records = topic_outlet().accept(
        status(status="done", preview=preview), status(preview=preview)
    )
    written, _ = order.judge(records)
    assert list(written[:2]) == records[:2]
    picture, late = written[2:]
    assert (picture.topic, picture.key, picture.value) == (
        "jobs.dlq",
        b"job-1",
        PICTURE,
    )
    assert picture.envelope.content_type == "image/jpeg"
    assert picture.envelope.kind == "preview"
    headers = dict(picture.extra)
    assert headers["bridge_reason"] == b"after_terminal"
    assert headers["__connect.errors.exception.message"] == (
        b"a preview came after the last record of its job"
    )
    # Key and digest refer from one letter to the other.
    assert late.topic == "jobs.dlq"
    assert headers["bridge_preview_sha256"] == DIGEST
    assert dict(late.extra)["bridge_preview_sha256"] == DIGEST


def test_records_of_one_kind_share_an_envelope() -> None:
    """Outbox and header writer know envelopes by identity."""
    jpeg, png = data_uri(PICTURE), data_uri(image("image/png"))
    outlet = topic_outlet()
    first, _, second, _, third, _ = outlet.accept(
        status(preview=jpeg), status(preview=png), status(preview=jpeg)
    )
    assert first.envelope is third.envelope
    assert second.envelope.content_type == "image/png"


def test_a_wrong_claim_is_told_on_the_preview_s_record() -> None:
    """The bytes decide what the record is called, and a header says so."""
    outlet = topic_outlet()
    picture, _ = outlet.accept(status(preview=data_uri(PICTURE, "image/png")))
    assert picture.envelope.content_type == "image/jpeg"
    assert picture.extra == (
        ("bridge_normalized", b"preview_type"),
        ("bridge_preview_sha256", DIGEST),
    )
    assert outlet.intake.statistics.normalized[Change.PREVIEW_TYPE] == 1


def test_an_invalid_preview_is_a_dead_letter_alone() -> None:
    """Its event goes out without it; the event itself is no dead letter."""
    text = "data:image/svg+xml,<svg onload='alert(1)'/>"
    message = (
        b"the preview is none of image/jpeg, image/png, image/webp, image/gif,"
        b" image/avif by its first bytes"
    )
    payload = status(preview=text, status="done")
    outlet = topic_outlet()
    letter, record = outlet.accept(payload)
    assert letter == Record(
        topic="jobs.dlq",
        key=b"job-1",
        value=text.encode(),
        received_at_us=RECEIVED_AT_US,
        envelope=Envelope(
            ce_source=SOURCE,
            ce_type="dev.dryapi.bridge.dead-letter",
            origin="socket",
            content_type="application/octet-stream",
            kind="preview",
        ),
        extra=(
            ("bridge_reason", b"invalid_preview"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            (
                "__connect.errors.exception.class.name",
                b"bridge.errors.InvalidPreviewError",
            ),
            ("__connect.errors.exception.message", message),
        ),
        importance=Importance.PICTURE,
    )
    assert record.value == without(payload)
    assert record.extra == (("bridge_normalized", b"preview_invalid"),)
    assert record.importance is Importance.TERMINAL
    statistics = outlet.intake.statistics
    assert (statistics.accepted, statistics.previews) == (1, 0)
    assert counted(statistics.dead_letters) == {}
    assert counted(statistics.preview_dead_letters) == {
        DeadLetterReason.INVALID_PREVIEW: 1
    }


def test_too_large_a_preview_is_a_dead_letter_alone() -> None:
    """It is cut as others are, and its event says why it has none."""
    text = data_uri(PICTURE)
    outlet = topic_outlet(max_preview_bytes=len(PICTURE) - 1, max_dead_letter_bytes=300)
    letter, record = outlet.accept(status(preview=text))
    headers = dict(letter.extra)
    assert letter.value == text.encode()[:300]
    assert headers["bridge_reason"] == b"too_large"
    assert headers["bridge_truncated"] == b"true"
    assert headers["bridge_original_size"] == str(len(text)).encode()
    assert (
        headers["bridge_sha256"] == hashlib.sha256(text.encode()).hexdigest().encode()
    )
    assert record.extra == (("bridge_normalized", b"preview_too_large"),)
    statistics = outlet.intake.statistics
    assert counted(statistics.preview_dead_letters) == {DeadLetterReason.TOO_LARGE: 1}
    assert (statistics.accepted, statistics.previews) == (1, 0)


def test_a_preview_of_exactly_the_limit_is_moved() -> None:
    """The limit is of the image, not of its text."""
    outlet = topic_outlet(max_preview_bytes=len(PICTURE))
    picture, _ = outlet.accept(status(preview=data_uri(PICTURE)))
    assert picture.value == PICTURE


def test_an_event_that_is_refused_leaves_no_preview() -> None:
    """Its preview lies in its own dead letter, and nowhere else."""
    outlet = topic_outlet()
    payload = status(preview=data_uri(PICTURE), status="sleeping")
    [letter] = outlet.accept(payload)
    assert letter.value == payload.encode()
    assert outlet.intake.statistics.previews == 0


def test_previews_need_a_topic_to_go_to() -> None:
    """Forgetting it is seen at once."""
    with pytest.raises(ValueError, match="topic"):
        Intake(
            ce_source=SOURCE,
            topic="jobs",
            dead_letter_topic="jobs.dlq",
            offer=lambda _: None,
            previews="topic",
        )


# -- Sizes -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["in_progress", "done"])
@pytest.mark.parametrize("size", [3000, 3_000_000])
def test_too_large_an_event_goes_without_its_preview(name: str, size: int) -> None:
    """Inline: what fits without it goes out, and says what it lacks."""
    payload = status(status=name, preview="x" * size)
    outlet = Outlet(max_value_bytes=2000)
    [record] = outlet.accept(payload)
    assert record.topic == "jobs"
    assert record.value == without(payload)
    assert record.extra == (("bridge_normalized", b"preview_too_large"),)
    assert record.importance is (
        Importance.TERMINAL if name == "done" else Importance.EVENT
    )
    statistics = outlet.intake.statistics
    assert statistics.accepted == 1
    assert counted(statistics.normalized) == {Change.PREVIEW_TOO_LARGE: 1}


def test_too_large_an_event_is_normalised_as_any() -> None:
    """What must be changed of it is changed, and told in the same header."""
    payload = status(preview="x" * 3000, progress=7)
    [record] = Outlet(max_value_bytes=2000).accept(json.loads(payload))
    assert record.extra == (
        (
            "bridge_normalized",
            b"data_not_string,progress_number,preview_too_large",
        ),
    )
    assert json.loads(record.value)["progress"] == "7.00"


@pytest.mark.parametrize("previews", ["inline", "drop", "topic"])
def test_what_does_not_fit_without_its_preview_is_a_dead_letter(previews: str) -> None:
    """It is whole in the dead letter, preview and all, and counted once."""
    payload = status(preview=data_uri(PICTURE), result_url="x" * 3000)
    outlet = Outlet(
        previews=previews, preview_topic="jobs.previews", max_value_bytes=2000
    )
    [letter] = outlet.accept(payload)
    assert letter.topic == "jobs.dlq"
    assert letter.value == payload.encode()
    assert letter.extra[0] == ("bridge_reason", b"too_large")
    statistics = outlet.intake.statistics
    assert (statistics.accepted, statistics.previews) == (0, 0)
    assert counted(statistics.dead_letters) == {DeadLetterReason.TOO_LARGE: 1}
    assert counted(statistics.preview_dead_letters) == {}


@pytest.mark.parametrize("previews", ["inline", "drop", "topic"])
def test_too_large_an_event_that_is_none_has_its_own_reason(previews: str) -> None:
    """It is read whatever its size, so that the dead letter says what is wrong."""
    outlet = Outlet(
        previews=previews, preview_topic="jobs.previews", max_value_bytes=2000
    )
    payload = status(preview="x" * 3000, status="sleeping")
    [letter] = outlet.accept(payload)
    assert letter.extra[0] == ("bridge_reason", b"unknown_status")
    assert letter.key == b"job-1"


def test_the_limit_of_events_is_not_that_of_previews() -> None:
    """An image may be larger than an event may be, once it stands alone."""
    data = image("image/png", 300)
    outlet = topic_outlet(max_value_bytes=500, max_preview_bytes=len(data))
    picture, record = outlet.accept(status(preview=data_uri(data), status="done"))
    assert picture.value == data
    assert len(record.value) < 500
    assert record.extra[0] == ("bridge_normalized", b"preview_moved")
    [record] = Outlet(previews="drop", max_value_bytes=500).accept(
        status(preview=data_uri(data))
    )
    assert record.extra == (("bridge_normalized", b"preview_omitted"),)


@pytest.mark.parametrize("previews", ["inline", "drop", "topic"])
def test_without_its_preview_an_event_may_have_just_the_limit(previews: str) -> None:
    """One byte less room, and it is a dead letter."""
    payload = status(preview=data_uri(PICTURE))
    size = len(without(payload))
    for limit, topic in ((size, "jobs"), (size - 1, "jobs.dlq")):
        outlet = Outlet(
            previews=previews, preview_topic="jobs.previews", max_value_bytes=limit
        )
        assert outlet.accept(payload)[-1].topic == topic
