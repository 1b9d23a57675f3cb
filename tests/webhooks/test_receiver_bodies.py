"""Bodies of any kind, a disk of any kind, and anything that a sender may think of."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.errors import OutboxFullError
from tests.webhooks.conftest import Told
from tests.webhooks.house import MAX_BYTES, NOW, PATH, House, piece
from tests.webhooks.making import CLIENT_ID, SECRET, body_of, completed, failed, signed


# -- Bodies -------------------------------------------------------------------------


async def _chunked(body: bytes, size: int = 100, wait: float = 0) -> Any:
    for begin in range(0, len(body), size):
        await trio.sleep(wait)
        yield body[begin : begin + size]


async def test_the_largest_body_is_taken() -> None:
    """And with one byte more it isn't, whether it says so or not."""
    house = House()
    body = body_of("job.failed", failed(error_message=""))
    for more, status in ((0, 200), (1, 413)):
        message = "x" * (MAX_BYTES - len(body) + more)
        large = body_of("job.failed", failed(error_message=message))
        assert len(large) == MAX_BYTES + more
        headers = signed(large, NOW, secret=f"{SECRET}-42")
        assert (await house.post(large, headers)).status_code == status
        pieces = [piece(large[:9]), piece(large[9:], has_more=False)]
        assert await house.told(large, iter(pieces)) == status
    assert house.outcomes() == {"taken": 1, "known": 1, "too_large": 2}


async def test_reading_stops_at_the_limit() -> None:
    """Of a body without end no more is asked for than may be."""
    house = House()
    endless = itertools.repeat(piece(b"x" * 100))
    counted = itertools.count()
    read = (message for message, _ in zip(endless, counted, strict=False))
    assert await house.told(b"", read) == 413
    assert next(counted) == MAX_BYTES // 100 + 1
    assert house.outcomes() == {"too_large": 1}


async def test_a_body_without_a_signature_is_not_read() -> None:
    """Noise is refused before its body is asked for."""
    house = House()

    asked = []

    async def body() -> AsyncIterator[bytes]:
        asked.append(True)
        yield b""

    answer = await house.post(body(), {})
    assert (answer.status_code, asked) == (401, [])


async def test_a_body_must_come_in_time(autojump_clock: MockClock) -> None:
    """After five seconds the sender is told, though it goes on sending."""
    house = House()
    body = body_of("job.completed", completed())
    headers = signed(body, NOW, secret=f"{SECRET}-42")
    begun = trio.current_time()
    answer = await house.post(_chunked(body, 1, 0.5), headers)
    assert answer.status_code == 408
    assert trio.current_time() - begun == pytest.approx(5)
    assert house.outcomes() == {"too_slow": 1}
    assert house.shelf.deliveries == []


# -- The disk -----------------------------------------------------------------------


async def test_a_disk_that_does_not_answer(
    autojump_clock: MockClock, told: Told
) -> None:
    """After eight seconds in all it is 503, and what is not yet begun is given up."""
    house = House()
    house.shelf.is_silent = True
    body = body_of("job.completed", completed())
    headers = signed(body, NOW, secret=f"{SECRET}-42")
    begun = trio.current_time()
    answer = await house.post(_chunked(body, len(body), 3), headers)
    assert trio.current_time() - begun == pytest.approx(8)
    assert (answer.status_code, answer.content) == (503, b"")
    assert answer.headers["retry-after"] == "60"
    (future,) = house.shelf.under_way
    assert future.cancelled()
    # It may have been begun: then it is looked for.
    assert house.expected == [(NOW + 3 + 10) * 10**6]
    assert house.outcomes() == {"unavailable": 1}
    assert house.events() == {}
    assert "within 8 s" in told()
    assert house.statistics.last_terminal_at_us == {CLIENT_ID: NOW * 10**6}


async def test_an_answer_at_the_last_moment_counts(autojump_clock: MockClock) -> None:
    """Before eight seconds are over it is 200."""
    house = House()
    house.shelf.is_silent = True
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            await trio.sleep(7.9)
            house.shelf.under_way[0].set_result(True)

        nursery.start_soon(answer)
        given_answer = await house.post(body_of("job.completed", completed()))
    assert given_answer.json() == {"status": "taken"}


async def test_a_disk_without_room(autojump_clock: MockClock, told: Told) -> None:
    """It is 503 at once; the log says which setting helps."""
    house = House()
    house.shelf.error = OutboxFullError("raise outbox.max_bytes")
    begun = trio.current_time()
    body = body_of("job.completed", completed())
    answer = await house.post(body)
    assert (answer.status_code, trio.current_time()) == (503, begun)
    assert "raise outbox.max_bytes" in told()
    # Once there is room again, the same delivery is taken.
    house.shelf.error = None
    assert (await house.post(body)).json() == {"status": "taken"}


async def test_an_outbox_that_has_ended(autojump_clock: MockClock) -> None:
    """What nobody will do any more is 503 at once."""
    house = House()
    house.shelf.is_closed = True
    begun = trio.current_time()
    answer = await house.post(body_of("job.completed", completed()))
    assert (answer.status_code, trio.current_time()) == (503, begun)


async def test_what_needs_no_disk_is_answered_without_one() -> None:
    """The dashboard's test succeeds though nothing can be written."""
    house = House()
    house.shelf.is_closed = True
    for event in ("webhook.validation", "job.paused"):
        assert (await house.post(body_of(event, {}))).status_code == 200


async def test_a_cancelled_request_leaves_nothing(autojump_clock: MockClock) -> None:
    """The end of the process gives up what waits for the disk."""
    house = House()
    house.shelf.is_silent = True
    with trio.move_on_after(1):
        await house.post(body_of("job.completed", completed()))
    assert house.shelf.under_way[0].cancelled()


# -- Anything -----------------------------------------------------------------------

_names = st.sampled_from(
    [
        "X-DryAPI-Signature",
        "X-DryAPI-Timestamp",
        "X-DeAPI-Signature",
        "X-DeAPI-Timestamp",
        "X-DryAPI-Event",
        "Content-Type",
        "Content-Length",
        "Content-Encoding",
    ]
)
_values = st.one_of(
    st.text("\x20\x7e09abg=,;é", max_size=80),
    st.sampled_from(["0", "9" * 30, "-1", "1e3", str(NOW), "sha256=" + "0" * 64]),
)


@settings(max_examples=150)
@given(
    body=st.binary(max_size=300),
    headers=st.lists(st.tuples(_names, _values), max_size=5),
    is_signed=st.booleans(),
)
async def test_anything_is_answered_and_nothing_is_our_fault(
    *, body: bytes, headers: list[tuple[str, str]], is_signed: bool
) -> None:
    """No bytes and no headers make an exception or a 5xx, nor a way in."""
    house = House()
    sent = [(name, value.encode("latin-1")) for name, value in headers]
    if is_signed:
        right = signed(body, NOW, secret=f"{SECRET}-42")
        sent += [(name, value.encode()) for name, value in right.items()]
    answer = await house.http.post(PATH, content=body, headers=sent)  # type: ignore[arg-type]
    assert answer.status_code in {200, 401, 413}
    if not is_signed:
        assert answer.status_code in {401, 413}
    assert len(house.shelf.deliveries) <= int(answer.status_code == 200)
    assert sum(house.statistics.deliveries.values()) == 1
