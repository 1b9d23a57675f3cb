"""Previews: which spellings and which images are taken, and where they go."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import quote_from_bytes

from bridge.events.record import Envelope, Importance, Record
from tests.rules.images import KINDS, SPELLINGS, data_uri, image
from tests.rules.intake import RECEIVED_AT_US, SOURCE, Outlet, counted, status


PICTURE = image("image/jpeg")
MODES = ("inline", "drop", "topic")

# An image whose base64 ends without padding: what follows it is decoded with it, and
# ignored by who looks for the kind of image.
WHOLE = image("image/gif") + bytes(-len(image("image/gif")) % 3)
BEGIN = base64.b64encode(WHOLE).decode()


def topic_outlet(**options: int) -> Outlet:
    """Give an intake that moves previews to a topic."""
    return Outlet(previews="topic", **options)


def moved(text: str) -> Record | None:
    """Give the record of a preview's image; None if it is a dead letter."""
    record, job = topic_outlet().accept(status(preview=text))
    assert job.topic == "jobs"
    assert json.loads(job.value)["preview"] is None
    if record.topic == "jobs.previews":
        return record
    assert record.topic == "jobs.dlq"
    assert record.value == text.encode()
    assert dict(record.extra)["bridge_reason"] == b"invalid_preview"
    return None


def without(payload: str) -> bytes:
    """Give the payload without its preview, and without space between members."""
    members = json.loads(payload) | {"preview": None}
    inner = [f'"{name}":{json.dumps(value)}' for name, value in members.items()]
    return f"{{{','.join(inner)}}}".encode()


def test_every_kind_is_taken_in_every_spelling() -> None:
    """The record's value is the image itself, its type what the bytes are."""
    wrong = []
    for kind in KINDS:
        for name, spell in SPELLINGS.items():
            data = image(kind)
            digest = hashlib.sha256(data).hexdigest().encode()
            record = moved(spell(data, kind))
            if record is None or record != Record(
                topic="jobs.previews",
                key=b"job-1",
                value=data,
                received_at_us=RECEIVED_AT_US,
                envelope=Envelope(
                    ce_source=SOURCE,
                    ce_type="dev.dryapi.request.preview",
                    origin="socket",
                    content_type=kind,
                    kind="preview",
                ),
                extra=(("bridge_preview_sha256", digest),),
                importance=Importance.PICTURE,
            ):
                wrong.append((kind, name, record))
    assert not wrong


# From the Web Platform Tests, fetch/data-urls/resources/base64.json: what follows an
# image, and what it is decoded to; None where all of it is refused.
BASE64: list[tuple[str, bytes | None]] = [
    *[("", b""), ("abcd", b"i\xb7\x1d"), (" abcd", b"i\xb7\x1d")],
    *[("abcd ", b"i\xb7\x1d"), (" abcd===", None), ("abcd=", None), ("abcd==", None)],
    *[("abcd====", None), ("ab", b"i"), ("abc", b"i\xb7"), ("abcde", None)],
    *[("ab=", None), ("ab==", b"i"), ("ab===", None), ("abc=", b"i\xb7"), ("a", None)],
    *[("=", None), ("==", None), ("===", None), ("====", None), ("a=", None)],
    *[("a==", None), ("a===", None), ("a=b", None), ("ab=c", None), ("=abc", None)],
    *[("ab\tcd", b"i\xb7\x1d"), ("ab\ncd", b"i\xb7\x1d"), ("ab\fcd", b"i\xb7\x1d")],
    *[("ab\rcd", b"i\xb7\x1d"), ("ab cd", b"i\xb7\x1d"), ("ab\u00a0cd", None)],
    *[("ab\u000bcd", None), ("ab\t\n\f\r =\t\n\f\r =\t\n\f\r ", b"i"), ("/", None)],
    *[("//", b"\xff"), ("///", b"\xff\xff"), ("////", b"\xff\xff\xff"), ("~", None)],
    *[("~~", None), ("A", None), ("AA", b"\x00")],
    # Bits that no byte needs are dropped.
    *[("AB", b"\x00"), ("AAB", b"\x00\x00")],
    # The one exception: what some encoders write.
    ("__-_", b"\xff\xff\xbf"),
]


def test_base64_is_read_as_browsers_read_it() -> None:
    """Bare and in a data URI; what is wrong is refused and not guessed at."""
    wrong = []
    for head in ("", "data:;base64,"):
        for tail, decoded in BASE64:
            record = moved(head + BEGIN + tail)
            if (record and record.value) != (
                None if decoded is None else WHOLE + decoded
            ):
                wrong.append((head, tail, record))
    assert not wrong


def test_the_bytes_decide_whatever_a_data_uri_names() -> None:
    """A wrong name is noted; one that says nothing of the kind isn't wrong."""
    named = {"image/png", "image/svg+xml", "text/html", "nonsense"}
    silent = {"", "image/gif", "text/plain", "application/octet-stream"}
    for name in named | silent:
        record = moved(f"data:{name};base64,{BEGIN}")
        assert record is not None
        headers = dict(record.extra)
        assert (record.value, record.envelope.content_type) == (WHOLE, "image/gif")
        assert ("bridge_normalized" in headers) == (name in named)
        assert headers.get("bridge_normalized", b"preview_type") == b"preview_type"
    # In use, though not registered.
    for name in ("image/jpg", "image/pjpeg"):
        record = moved(data_uri(PICTURE, name))
        assert record is not None
        assert dict(record.extra).keys() == {"bridge_preview_sha256"}


NEITHER = [
    "https://storage.example/previews/1.jpg",
    "data:",
    "data:image/png;base64",
    f"data:base64,{BEGIN}",
    f"data:image/gif;base64;x=1,{BEGIN}",
    f"data:image/gif,{quote_from_bytes(WHOLE)}",
    f"data:{';' * 500_000}",
    "<svg xmlns='http://www.w3.org/2000/svg'/>",
    "data:image/svg+xml,<svg/>",
    "d",
    "",
    data_uri(b"hello"),
]


def test_what_is_neither_is_refused() -> None:
    """An address is not fetched, and markup isn't taken for data."""
    taken = [text[:50] for text in NEITHER if moved(text) is not None]
    assert not taken


NO_IMAGES = [
    b"",
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    b"<?xml version='1.0'?><svg/>",
    b"<!DOCTYPE html><script>alert(1)</script>",
    b"%PDF-1.7\n",
    b"BM" + bytes(60),
    b"II*\x00" + bytes(60),
    b"\x00\x00\x01\x00\x01\x00" + bytes(60),
    *(image(kind)[:3] for kind in KINDS),
    *(b"\n" + image(kind) for kind in KINDS),
    # The pattern of a kind, and something else behind it.
    b"\xff\xd8\xff",
    b"\xff\xd8\xff<script>alert(1)</script>",
    b"\xff\xd8\xff\xd9\x00\x10",
    b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
    b"GIF89a",
    b"GIF88a" + bytes(60),
    b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(60),
    b"RIFF\x24\x00\x00\x00WEBPJUNK" + bytes(60),
    # The same container for a film, and a box that is far too long.
    b"\x00\x00\x00\x14ftypmp42\x00\x00\x00\x00isom" + bytes(60),
    b"\x00\x00\x10\x00ftypavif\x00\x00\x00\x00" + bytes(60),
]


def test_what_could_hold_a_script_or_only_begins_like_an_image_is_refused() -> None:
    """Whatever it is called."""
    taken = [data for data in NO_IMAGES if moved(data_uri(data)) is not None]
    assert not taken


def test_too_large_an_image_is_a_dead_letter_beside_its_event() -> None:
    """The limit is of the image, not of its text, and not that of events."""
    text = data_uri(PICTURE)
    size = len(PICTURE)
    picture, _ = topic_outlet(max_preview_bytes=size, max_value_bytes=300).accept(
        status(preview=text)
    )
    assert picture.value == PICTURE
    outlet = topic_outlet(max_preview_bytes=size - 1, max_dead_letter_bytes=300)
    letter, job = outlet.accept(status(preview=text))
    headers = dict(letter.extra)
    assert letter.value == text.encode()[:300]
    assert headers["bridge_reason"] == b"too_large"
    assert headers["bridge_original_size"] == str(len(text)).encode()
    assert job.extra == (("bridge_normalized", b"preview_too_large"),)
    statistics = outlet.intake.statistics
    assert counted(statistics.preview_dead_letters) == {"too_large": 1}
    assert (statistics.accepted, statistics.previews) == (1, 0)


def test_an_event_that_fits_without_its_preview_goes_without_it() -> None:
    """In each mode; one byte less room and it is a dead letter, whole, counted once."""
    payload = status(preview=data_uri(PICTURE), status="done")
    size = len(without(payload))
    words = {"inline": "too_large", "drop": "omitted", "topic": "moved"}
    for mode in MODES:
        outlet = Outlet(previews=mode, max_value_bytes=size)
        *_, job = outlet.accept(payload)
        assert (job.topic, job.value) == ("jobs", without(payload))
        changes = dict(job.extra)["bridge_normalized"].decode()
        assert changes == f"preview_{words[mode]}"
        assert job.importance is Importance.TERMINAL
        outlet = Outlet(previews=mode, max_value_bytes=size - 1)
        [letter] = outlet.accept(payload)
        assert (letter.topic, letter.value) == ("jobs.dlq", payload.encode())
        assert letter.extra[0] == ("bridge_reason", b"too_large")
        statistics = outlet.intake.statistics
        assert (statistics.accepted, statistics.previews) == (0, 0)
        assert counted(statistics.dead_letters) == {"too_large": 1}
        assert counted(statistics.preview_dead_letters) == {}
        # What isn't an event has its own reason, whatever its size.
        [letter] = Outlet(previews=mode, max_value_bytes=size).accept(
            status(preview=data_uri(PICTURE), status="sleeping")
        )
        assert letter.extra[0] == ("bridge_reason", b"unknown_status")
