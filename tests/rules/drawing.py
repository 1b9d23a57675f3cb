"""
Payloads, drawn: conforming, to be changed, to be refused, with and without previews.

Nothing here knows what should become of them.
"""

from __future__ import annotations

import json

from hypothesis import strategies as st

from bridge.events.job_status import STATUSES
from bridge.pusher.protocol import ChannelEvent, decode
from tests.rules.images import KINDS, SPELLINGS, image


__all__ = ["EVENTS", "MAX_BYTES", "MAX_PREVIEW_BYTES", "frame_of"]

# Limits that drawn events cross now and then: a third of the images are larger, some
# of each kind but AVIF.
MAX_BYTES = 20_000
MAX_PREVIEW_BYTES = 640

# Characters that matter to JSON, UTF-8 or the contract, beside any other.
TEXTS = st.text(
    st.sampled_from('"\\/:,{}[] \n\t\x00\x7f\x85\ud800\udc00\U0001f600aé')
    | st.characters(codec=None)
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e999", "-1E400", "0.10", "-0", "1e-400", "1" * 320, "1" * 4400]),
)
SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false"]),
    NUMBERS,
    st.builds(json.dumps, TEXTS, ensure_ascii=st.booleans()),
)
LITERALS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(TEXTS, inner)).map(
            lambda pairs: (
                "{" + ",".join(f"{json.dumps(k)}:{value}" for k, value in pairs) + "}"
            )
        ),
    ),
    max_leaves=8,
)
LONG_TEXTS = st.builds(
    lambda text, size: json.dumps(text * (size // len(text))),
    TEXTS.filter(bool),
    st.sampled_from([1000, 3000, 5000, 12_000]),
)
# Images of every kind in every spelling, whole, called something else or spoilt; some
# write a slash with its escape, as PHP does.
PREVIEWS = st.builds(
    lambda kind, claimed, side, spell, cut, slash: json.dumps(
        spell(image(kind, side), claimed)[cut:]
    ).replace("/", slash),
    st.sampled_from(list(KINDS)),
    st.sampled_from([*KINDS, "image/svg+xml", "text/plain"]),
    st.sampled_from([1, 16, 64]),
    st.sampled_from(list(SPELLINGS.values())),
    st.sampled_from([0, 0, 0, 1, 40]),
    st.sampled_from(["/", r"\/"]),
)
FIELDS = {
    "request_id": st.one_of(
        st.uuids().map(lambda uuid: f'"{uuid}"'),
        st.builds(json.dumps, TEXTS, ensure_ascii=st.booleans()),
        LITERALS,
    ),
    "status": st.sampled_from(
        [*(json.dumps(status) for status in STATUSES), '"pending"', "1"]
    ),
    "preview": st.one_of(st.just("null"), SCALARS, LONG_TEXTS, LITERALS, PREVIEWS),
    "result_url": st.one_of(st.just("null"), SCALARS, LONG_TEXTS),
    "progress": st.one_of(
        st.decimals(-9, 100, places=2).map(lambda number: f'"{number}"'),
        st.sampled_from(['"1e2"', '"45.50\\n"', '" 1"']),
        st.just("null"),
        NUMBERS,
        SCALARS,
    ),
    "error_code": SCALARS,
    "error_message": SCALARS,
}
REQUIRED = ("request_id", "status", "preview", "result_url", "progress")
SPACES = st.sampled_from(["", "", " ", "\n", "\t "])


@st.composite
def conforming_members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draw the members of an event that mostly conforms: key and literal."""
    members = [
        ("request_id", draw(st.uuids().map(lambda uuid: f'"{uuid}"'))),
        ("status", draw(st.sampled_from([json.dumps(item) for item in STATUSES]))),
        (
            "preview",
            draw(st.just("null") | LONG_TEXTS | TEXTS.map(json.dumps) | PREVIEWS),
        ),
        ("result_url", draw(st.just("null") | TEXTS.map(json.dumps))),
        (
            "progress",
            draw(
                st.just("null")
                | st.decimals(0, 100, places=2).map(lambda number: f'"{number}"')
            ),
        ),
    ]
    return draw(st.permutations(members))


@st.composite
def any_members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draw members of any kind: left out, repeated, unknown, of a wrong type."""
    names = draw(
        st.lists(st.sampled_from(list(FIELDS)), max_size=4).map(
            lambda more: [*REQUIRED, *more]
        )
        | st.lists(st.sampled_from(list(FIELDS)))
    )
    members = [(name, draw(FIELDS[name])) for name in names]
    return draw(st.permutations(members))


@st.composite
def events(draw: st.DrawFn) -> str:
    """Draw the text of an event, spaced and cut anyhow."""
    members = draw(conforming_members() | any_members())
    members += draw(st.lists(st.tuples(TEXTS, LITERALS), max_size=2))
    space = draw(SPACES)
    inner = f"{space},{space}".join(
        f"{json.dumps(name)}{space}:{space}{literal}" for name, literal in members
    )
    text = f"{space}{{{inner}}}{space}"
    if draw(st.integers(0, 9)) == 9:
        text += draw(st.sampled_from(["x", "\x00", "{}", ",", "\x0c"]))
    if draw(st.integers(0, 19)) == 19:
        text = text[: draw(st.integers(0, len(text)))]
    return text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.text(min_size=1) | JSON_VALUES,
        "status": st.sampled_from(STATUSES) | JSON_VALUES,
        "preview": st.none() | TEXTS | JSON_VALUES,
        "result_url": st.none() | TEXTS,
        "progress": st.floats(0, 100) | st.just("1.00") | JSON_VALUES,
        "more": JSON_VALUES,
    },
)


@st.composite
def pictured(draw: st.DrawFn) -> str:
    """Draw the text of an event that conforms and has a preview."""
    members = dict(draw(conforming_members()))
    members["preview"] = draw(PREVIEWS)
    more = draw(st.sampled_from(["", ',"more":1e999', ',"preview":null']))
    inner = ",".join(f'"{name}":{literal}' for name, literal in members.items())
    return f"{{{inner}{more}}}"


# What upstream may send.
PAYLOADS = pictured() | pictured() | events() | TEXTS | OBJECTS | JSON_VALUES


def frame_of(data: object, *, is_ascii: bool) -> ChannelEvent:
    """Send a payload through a frame, as a publisher writes it."""
    received = _received(data, is_ascii=is_ascii)
    assert isinstance(received, ChannelEvent)
    return received


def _received(data: object, *, is_ascii: bool) -> object:
    frame = {"event": "request.status.updated", "channel": "c", "data": data}
    return decode(json.dumps(frame, ensure_ascii=is_ascii))


# What the frame itself can't hold (NaN beside it) isn't drawn.
EVENTS = st.builds(_received, PAYLOADS, is_ascii=st.booleans()).filter(
    lambda received: isinstance(received, ChannelEvent)
)
