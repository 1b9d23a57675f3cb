"""The messages as soketi writes them, byte for byte."""

from __future__ import annotations

import json

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode

from bridge.sandbox import frames


def _text(frame: bytes) -> str:
    # wsproto, as a client, is the independent reader of what is framed by hand.
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(frame)
    (read,) = protocol.received_frames()
    assert read.opcode is Opcode.TEXT
    assert read.message_finished
    return str(read.payload)


def test_established_carries_a_string() -> None:
    """`data` is JSON within JSON, with the timeout as a number."""
    assert _text(frames.established("1.2")) == (
        '{"event":"pusher:connection_established",'
        '"data":"{\\"socket_id\\":\\"1.2\\",\\"activity_timeout\\":30}"}'
    )


def test_small_answers_have_soketis_shapes() -> None:
    """Pong, error, acknowledgement and refusal look as measured."""
    assert _text(frames.pong()) == '{"event":"pusher:pong","data":{}}'
    assert _text(frames.error(4001, "No.")) == (
        '{"event":"pusher:error","data":{"code":4001,"message":"No."}}'
    )
    assert json.loads(_text(frames.error(4301, "No.", channel="a"))) == {
        "event": "pusher:error",
        "channel": "a",
        "data": {"code": 4301, "message": "No."},
    }
    assert _text(frames.subscription_succeeded("private-x")) == (
        '{"event":"pusher_internal:subscription_succeeded","channel":"private-x"}'
    )
    assert _text(frames.unauthorized("private-x")) == (
        '{"event":"pusher:subscription_error","channel":"private-x",'
        '"data":{"type":"AuthError","error":"The connection is unauthorized.",'
        '"status":401}}'
    )


@pytest.mark.parametrize("size", [0, 60, 125, 126, 200, 65_535, 65_536, 200_000])
def test_events_of_every_length_are_framed(size: int) -> None:
    """A reader gets event, channel and data, in soketi's order, whatever the size."""
    data = json.dumps({"preview": "x" * size})
    text = _text(frames.channel_event("e", "c", data))
    assert list(json.loads(text).items()) == [
        ("event", "e"),
        ("channel", "c"),
        ("data", data),
    ]


@pytest.mark.parametrize("data", [5, True, {"a": [1]}, "\N{SNOWMAN}"])
def test_data_is_sent_on_as_it_is(data: object) -> None:
    """Whatever JSON was published comes out."""
    assert json.loads(_text(frames.channel_event("e", "c", data)))["data"] == data


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "1", "{", '{"data":{}}', '{"event":5}', "[" * 100_000]
)
def test_junk_is_no_message(text: str) -> None:
    """What is no message is None, never an error."""
    assert frames.parse(text) is None


def test_channel_names_are_judged() -> None:
    """Length and characters count, and the two refusals differ as soketi's do."""
    assert frames.channel_name_fault("private-client.a_B=@,.;-9") is None
    assert frames.channel_name_fault("x" * 200) is None
    too_long = frames.channel_name_fault("x" * 201)
    assert too_long is not None
    assert (too_long["type"], too_long["status"]) == ("LimitReached", 4009)
    for name in ("", "a b", "a/b", "\N{SNOWMAN}"):
        fault = frames.channel_name_fault(name)
        assert fault is not None
        assert "type" not in fault
        assert fault["status"] == 4009
