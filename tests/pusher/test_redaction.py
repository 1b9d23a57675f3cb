"""What a redacted message shows: its shape, and nothing of its content."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import InvalidEventError
from bridge.job_status import parse
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.pusher.redaction import Redactor
from tests.kit.scripted import CHANNEL
from tests.pusher.canary import CANARY, NUMBER, shows_canary


_secrets = st.sampled_from(
    [
        *(CANARY, str(NUMBER), f"{CANARY}-1", f"private-client.{CANARY}", f'{CANARY}"'),
        *(f"https://h/{CANARY}?s=1", f'{{"{CANARY}":"{CANARY}', f"data:i;{CANARY}/+=="),
        *(f"ü{CANARY}日本", f"\ud83d{CANARY}😀", f"\x00{CANARY}", f"\\{CANARY}\n"),
    ]
)
_odd_texts = st.sampled_from(
    [*("ü日本😀", "\ud83d", "a\x00b", '{"', "1e999", "\\", '"', " \u2028\u00a0{", "")]
)
_words = st.sampled_from(
    [
        *(
            "done",
            "processing",
            "pending",
            "request.status.updated",
            "pusher:error",
            "45.50",
        )
    ]
)
_texts = st.one_of(_secrets, _secrets, _odd_texts, _words)
_scalars = st.one_of(
    _texts,
    st.none() | st.booleans(),
    st.just(NUMBER),
    st.integers(-99_999_999, 99_999_999) | st.floats(-1e6, 1e6),
)


def _as_escapes(text: str) -> str:
    """Write each character of a JSON text's strings as an escape: the same JSON."""
    return re.sub(
        r'"([^"\\]*)"',
        lambda m: '"' + "".join(f"\\u{ord(c) & 0xFFFF:04x}" for c in m[1]) + '"',
        text,
    )


_json_scalars = st.builds(json.dumps, _scalars, ensure_ascii=st.booleans())
_json_scalars = st.one_of(_json_scalars, _json_scalars, _json_scalars.map(_as_escapes))


def _object(pairs: list[tuple[str, str]]) -> str:
    """Write an object by hand: its members may be there twice."""
    return "{" + ", ".join(f'"{name}" :{value}' for name, value in pairs) + "}"


def _members(**members: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make objects of some of these members, with wrong values now and then."""
    choices = [
        st.tuples(st.just(name), st.one_of(*[values] * 9, _json_scalars))
        for name, values in members.items()
    ]
    more = st.tuples(st.sampled_from([CANARY, *members]), _json_scalars)
    return st.builds(
        lambda some, others: _object([*some, *others]),
        st.one_of(st.tuples(*choices), st.lists(st.one_of(choices), max_size=6)),
        st.one_of(st.just([]), st.lists(more, max_size=2)),
    )


def _json(values: list[Any]) -> st.SearchStrategy[str]:
    return st.sampled_from(values).map(json.dumps)


_jobs = _members(
    request_id=_secrets.map(json.dumps),
    status=_json(["processing", "in_progress", "done", "error", "pending", CANARY]),
    preview=_json([None, f"data:image/jpeg;base64,{CANARY}/9j4==", CANARY * 400]),
    result_url=_json([None, f"https://{CANARY}.test/a.png?sig={CANARY}"]),
    progress=_json([None, "45.50", "100", 7, 45.5, "x", 33.3333, str(NUMBER), -1]),
    error_message=_json([None, CANARY]),
)
_payloads = st.one_of(
    _jobs,
    _jobs,
    _jobs,
    _jobs.map(json.dumps),
    _jobs.map(_as_escapes),
    _json_scalars,
    st.lists(_json_scalars, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    st.builds(lambda text, end: text[:end], _jobs, st.integers(1, 200)),
    _texts,
)
_frames = st.one_of(
    _payloads.map(
        lambda data: json.dumps(
            {"event": "request.status.updated", "channel": CHANNEL, "data": data}
        )
    ),
    st.builds(
        lambda event, channel, data: _object(
            [("event", event), ("channel", channel), ("data", data)]
        ),
        _json(["request.status.updated", "pusher:error", f"{CANARY}.event", 5]),
        _json([CHANNEL, f"private-{CANARY}", None, 7]),
        st.one_of(_jobs, _json_scalars),
    ),
    _members(
        event=_json(["pusher:error", "pusher:connection_established", "pusher:pong"]),
        data=_members(
            code=_json([4200, NUMBER, 12.5]),
            message=_json([CANARY]),
            socket_id=_json(["123.456", f"{CANARY}.1", f"{NUMBER}.1"]),
            activity_timeout=_json([30, NUMBER, -1]),
        ),
    ),
)
_messages = st.one_of(
    _frames,
    _frames,
    _payloads,
    st.builds(lambda text, end: text[:end], _frames, st.integers(0, 300)),
    st.lists(st.one_of(_texts, st.text())).map("".join),
)


def _way(message: str) -> object:
    """Tell which way a message takes through the bridge."""
    event = decode(message)
    if not isinstance(event, ChannelEvent):
        return type(event), getattr(event, "reason", None)
    try:
        status = parse(event.data)
    except InvalidEventError as error:
        return error.reason
    return status.status, status.normalized, status.has_preview


@given(_messages)
@settings(max_examples=800)
def test_nothing_private_gets_through_and_the_shape_stays(message: str) -> None:
    """Whatever a message is: no canary, the same size, the same way to its end."""
    redacted = Redactor().message(message)

    assert not shows_canary(redacted)
    assert len(redacted) == len(message)
    assert len(redacted.encode("utf-8", "surrogatepass")) == len(
        message.encode("utf-8", "surrogatepass")
    )
    assert _way(redacted) == _way(message)


@pytest.mark.parametrize(
    ("message", "redacted"),
    [
        # What decides about a connection is kept, as far as it can be no secret.
        *[
            (text, text)
            for text in (
                '{"event":"pusher:error","data":{"code":4200,"message":null}}',
                '{"event":"pusher:ping","data":{}}',
                '{"data":"{\\"activity_timeout\\":30.5,\\"status\\": 401}"}',
                '{"status":"in_progress","progress":"45.50","preview":null}',
                '{"status":"error","progress":100}',
                "[true, false, null, NaN, -Infinity, {}]",
            )
        ],
        # Anything else isn't, whatever stands around it.
        ('{"code":[4200,12345]}', '{"code":[1100,11111]}'),
        ('{"code":{"status":401, "type":402}}', '{"code":{"status":401, "type":101}}'),
        ('{"code":123456}', '{"code":111111}'),
        ('{"message":"Go away, Bob!"}', '{"message":"xx xxxx, xxx!"}'),
        ('{"progress":"5551234"}', '{"progress":"0000000"}'),
        ('{"preview":"data:a/b+c=="}', '{"preview":"xxxxxxxxxxxx"}'),
        ('{"data":"null and void 12"}', '{"data":"null xxx xxxx 11"}'),
        ('{"auth":"key:0a1b"}', '{"auth":"xxxxxxxx"}'),
        ("trueBob 1.50e-7 1e9999", "truexxx 1.10e-7 1e9999"),
        ('"\\u0042\\q\\u00e9\\n', '"\\u0078\\x\\u00e9\\n'),
    ],
)
def test_what_is_kept_is_a_closed_vocabulary(message: str, redacted: str) -> None:
    """Words and small numbers of the protocol, in their own places."""
    assert Redactor().message(message) == redacted


def test_channels_and_their_client_share_a_pseudonym() -> None:
    """The account is recognised by it, and another channel isn't taken for it."""
    redactor = Redactor()
    client_id = redactor.pseudonym(CANARY)

    assert redactor.message(f'{{"channel":"private-client.{CANARY}"}}') == (
        f'{{"channel":"private-client.{client_id}"}}'
    )
    other = redactor.message(f'{{"channel":"private-other.{CANARY}"}}')
    assert client_id not in other
    assert "private" not in other


@given(st.lists(st.one_of(_texts, st.text(max_size=5))).map(" ".join))
@settings(max_examples=100)
def test_nothing_private_gets_through_in_a_sentence(sentence: str) -> None:
    """An error's message may quote a server, a host or anything else."""
    redacted = Redactor().sentence(sentence)

    assert not shows_canary(redacted)
    assert len(redacted) == len(sentence)


def test_a_sentence_of_the_bridge_stays_readable() -> None:
    """Its own words say what happened; a server's and a host's name are masked."""
    assert (
        Redactor().sentence(f"{CANARY}.test:443 closed the connection: 'Go, {CANARY}!'")
        == "xxxxxx0xxxxxx0.xxxx:000 closed the connection: 'xx, xxxxxx0xxxxxx0!'"
    )


def test_a_job_keeps_its_pseudonym_within_a_recording_alone() -> None:
    """The same id gives the same pseudonym, another one another; so do recordings."""
    job, other = "123e4567-e89b-12d3-a456-426614174000", "1"
    redactor = Redactor()

    assert redactor.pseudonym(job) == redactor.pseudonym(job) != job
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-.{12}", redactor.pseudonym(job))
    assert len({redactor.pseudonym(str(number)) for number in range(9)}) == 9
    assert redactor.pseudonym(other) != other
    assert Redactor().pseudonym(job) != redactor.pseudonym(job)


def test_a_text_too_long_for_a_name_is_masked() -> None:
    """Nobody follows a job by a thousand characters."""
    assert Redactor().pseudonym("job1" * 1000) == "xxx0" * 1000


def test_a_message_of_nothing_but_quotes_is_redacted_in_time() -> None:
    """Costs are bounded where every character begins something."""
    started_at = time.monotonic()
    for text in ('"' * 1_000_000, '\\"' * 300_000, '["' * 500_000, "1" * 1_000_000):
        assert len(Redactor().message(text)) == len(text)
    assert time.monotonic() - started_at < 10
