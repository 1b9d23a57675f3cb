"""What the server says."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.pusher.protocol import (
    DEFAULT_ACTIVITY_TIMEOUT_SECONDS,
    ChannelEvent,
    Established,
    Ping,
    Pong,
    ServerError,
    SubscriptionError,
    SubscriptionSucceeded,
    Unrecognized,
    channel_of,
    connect_url,
    decode,
    subscribe,
)
from tests.pusher import fuzz


def _frame(event: object, **members: object) -> str:
    return json.dumps({"event": event, **members})


@pytest.mark.parametrize("wrap", [json.dumps, lambda data: data])
def test_row_02_established_takes_its_data_as_string_or_object(wrap: Any) -> None:
    """Pusher and soketi send a string, others an object."""
    data = wrap({"socket_id": "12.34", "activity_timeout": 20})
    frame = _frame("pusher:connection_established", data=data)
    assert decode(frame) == Established("12.34", 20.0)


def test_row_03_an_unusable_activity_timeout_becomes_the_default() -> None:
    """Missing, zero, negative, huge and ill-typed values do no harm."""
    unusable: list[object] = [None, 0, -1, 0.01, 1e9, "30", True, [], {}, 10**30]
    for more in ({}, *({"activity_timeout": value} for value in unusable)):
        data = {"socket_id": "1.2", **more}
        event = decode(_frame("pusher:connection_established", data=data))
        assert event == Established("1.2", DEFAULT_ACTIVITY_TIMEOUT_SECONDS), more
    # 1e999 is infinite for some readers of JSON.
    text = '{"socket_id":"1.2","activity_timeout":1e999}'
    frame = _frame("pusher:connection_established", data=text)
    assert isinstance(decode(frame), Unrecognized)


def test_row_04_established_without_a_usable_socket_id_is_unrecognized() -> None:
    """A signature could not be asked for."""
    ids = (None, 12.34, "", "12", "1.2\n", "1.2:private-other", "\u0663.\u0664")
    table: list[object] = [None, "", "not json", "[]", [], {}]
    for data in (*table, *({"socket_id": each} for each in ids)):
        event = decode(_frame("pusher:connection_established", data=data))
        assert isinstance(event, Unrecognized), data
        assert "socket id" in event.reason


@pytest.mark.parametrize("members", [{}, {"data": {}}, {"data": "{}"}, {"data": None}])
def test_row_35_members_come_with_any_data(members: dict[str, object]) -> None:
    """Soketi sends none or an object, Reverb a string or nothing."""
    frame = _frame("pusher_internal:subscription_succeeded", channel="c", **members)
    assert decode(frame) == SubscriptionSucceeded("c")
    assert decode(_frame("pusher:ping", **members)) == Ping()
    assert decode(_frame("pusher:pong", **members)) == Pong()


def test_row_23_error_data_is_taken_in_every_shape() -> None:
    """String, object, null and no code are all tolerated."""
    bye, unknown = ServerError(4200, "bye"), ServerError(None, "")
    table: list[tuple[object, ServerError]] = [
        ({"code": 4200, "message": "bye"}, bye),
        ('{"code":4200,"message":"bye"}', bye),
        ({"message": "bye"}, ServerError(None, "bye")),
        *(({"code": code}, unknown) for code in ("4200", 10**9, -1)),
        ({"code": True, "message": 5}, unknown),
        *((None, unknown), ("bye", unknown), ([], unknown)),
    ]
    read = [decode(_frame("pusher:error", data=data)) for data, _ in table]
    assert read == [expected for _, expected in table]


def test_a_servers_sentence_is_shortened_and_made_printable() -> None:
    """No stranger writes escape sequences or a book into the log."""
    event = decode(_frame("pusher:error", data={"message": "a\x1b[31m\nb" + "x" * 999}))
    assert isinstance(event, ServerError)
    assert event.message.startswith("a [31m bx")
    assert len(event.message) <= 200


def test_row_32_a_subscription_error_is_read_with_and_without_type() -> None:
    """Soketi leaves `type` out for names it doesn't like."""
    data = {"type": "AuthError", "error": "no", "status": 401}
    frame = _frame("pusher:subscription_error", channel="c", data=data)
    assert decode(frame) == SubscriptionError("c", 401, "AuthError", "no")
    data = {"error": "bad name", "status": 4009}
    frame = _frame("pusher:subscription_error", channel="c", data=data)
    assert decode(frame) == SubscriptionError("c", 4009, "", "bad name")


def test_row_39_a_frame_that_is_no_event_is_unrecognized() -> None:
    """Whatever it is, nothing is raised and the reason quotes nothing."""
    deep, deeper = (
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    )
    messages: list[str | bytes] = [
        *("", "null", "[]", "1", '"text"', "{}", "not json", "[NaN]", deep),
        *('{"channel":"c"}', '{"event":5}', '{"event":null,"data":1e999}'),
        *('{"event":"a","channel":5}', '{"event":"a"'),
        '{"event":"a","channel":["c"],"data":"\\ud800"}',
        *(f'{{"event":"a","data":{deep}}}', f'{{"event":"a","x":{deeper}}}'),
        '{"event":"a","data":"\\ud800","x":' + "9" * 5000 + "}",
        *(b'{"event":"pusher:ping"}', b"\xff\xfe"),
    ]
    for message in messages:
        event = decode(message)
        assert isinstance(event, Unrecognized), message[:99]
        assert len(event.reason) < 60


def test_row_40_data_is_delivered_decoded_and_as_its_bytes() -> None:
    """A string is the payload, JSON or not; spaces and double keys are kept."""
    table: list[tuple[str, object, str]] = [
        # The data as it is written, as it is read, and as its own bytes.
        *(
            (json.dumps(text), text, text)
            for text in ("plain words", "null", '{"a": 1}', "", "ü€𝄞")
        ),
        *(("0", 0, "0"), ("null", None, "null"), ("true", True, "true")),
        ('{"b":1, "a":1.50, "a":2}', {"b": 1, "a": 2}, '{"b":1, "a":1.50, "a":2}'),
        *(("[1 , 2]", [1, 2], "[1 , 2]"), ("9" * 30, 10**30 - 1, "9" * 30)),
        # A number that msgspec refuses is still what was published.
        *((text, text, text) for text in ("1e999", "9" * 5000, "[1e999]")),
        # No UTF-8 has a lone surrogate, so its escape stands for it.
        ('"a\\ud800b"', '"a\\ud800b"', '"a\\ud800b"'),
    ]
    for text, data, original in table:
        event = decode(f'{{"event":"e","channel":"c","data":{text}}}')
        assert isinstance(event, ChannelEvent)
        assert (event.data, event.original) == (data, original.encode())
    event = decode('{"event":"e","channel":"c"}')
    assert isinstance(event, ChannelEvent)
    assert (event.data, event.original) == (None, b"null")


@given(fuzz.texts | st.text() | st.binary())
def test_row_39_what_is_read_is_within_its_bounds(text: str | bytes) -> None:
    """No bytes and no frame make an error, or a value that others can't rely on."""
    match decode(text):
        case Established(socket_id, timeout_seconds):
            assert re.fullmatch(r"[0-9]{1,40}\.[0-9]{1,40}", socket_id)
            assert 1 <= timeout_seconds <= 3600
        case ServerError(code, message) | SubscriptionError(_, code, _, message):
            assert code is None or 0 < code < 10_000
            assert len(message) <= 200
            assert message.isprintable()
        case ChannelEvent() as event:
            assert event.text == text
            assert isinstance(event.original, bytes)
        case Unrecognized(reason):
            assert len(reason) < 60
        case event:
            assert event in {Ping(), Pong()} or isinstance(event, SubscriptionSucceeded)


def test_row_01_the_address_has_path_protocol_and_client() -> None:
    """A path in front of `/app/` stays; the app key can't change the path."""
    parts = urlsplit(connect_url("wss://h:6001/prefix/", "a/../b?c#d"))
    assert parts[:3] == ("wss", "h:6001", "/prefix/app/a%2F..%2Fb%3Fc%23d")
    query = parse_qs(parts.query)
    assert query.keys() == {"protocol", "client", "version"}
    assert query["protocol"] == ["7"]
    subscription = json.loads(subscribe(channel_of("Az09_-=@,.;"), 'k:"s'))
    assert subscription == {
        "event": "pusher:subscribe",
        "data": {"channel": "private-client.Az09_-=@,.;", "auth": 'k:"s'},
    }
