"""Tests of answers without an end, which a client reads for as long as it stays."""

from __future__ import annotations

import pytest
import structlog
import trio

from bridge.serving import Limits
from tests.serving.clients import (
    BRIEF,
    GET,
    PATIENCE_SECONDS,
    asked,
    connected,
    descriptors,
    served,
)


def _lasting(size: int) -> bytes:
    return GET.replace(b"/", b"/last/%d" % size, 1)


async def test_answer_lasts_while_it_is_read() -> None:
    """The time of an answer is that of a piece: all together take longer."""
    async with served(BRIEF) as port:
        stream = await connected(port)
        await stream.send_all(_lasting(10))
        begun = trio.current_time()
        while trio.current_time() < begun + 3 * BRIEF.answer_seconds:
            with trio.fail_after(PATIENCE_SECONDS):
                assert await stream.receive_some(65536)
        await stream.aclose()


async def test_client_that_does_not_read_is_left() -> None:
    """One piece is held for it, for as long as one may take; that is no bug."""
    with structlog.testing.capture_logs() as logs:
        async with served(BRIEF) as port:
            before = descriptors()
            stream = await connected(port)
            await stream.send_all(_lasting(4 * 1024 * 1024))
            with trio.fail_after(PATIENCE_SECONDS):
                while descriptors() < before + 2:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
                while descriptors() > before + 1:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.02)
            await stream.aclose()
    assert [line["event"] for line in logs] == ["port.listening"]


async def test_client_that_has_gone_is_noticed() -> None:
    """The next piece finds nobody, and its place is free again."""
    limits = Limits(max_connections=1)
    async with served(limits) as port:
        stream = await connected(port)
        await stream.send_all(_lasting(10))
        assert await stream.receive_some(100)
        await stream.aclose()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await asked(port) == "5"


@pytest.mark.parametrize("size", [10, 4 * 1024 * 1024])
async def test_end_of_serving_ends_it(size: int) -> None:
    """It has the grace of any other request, and leaves no descriptor."""
    before = descriptors()
    async with served() as port:
        stream = await connected(port)
        await stream.send_all(_lasting(size))
        assert await stream.receive_some(100)
        begun = trio.current_time()
    assert trio.current_time() - begun < 1 + PATIENCE_SECONDS
    await stream.aclose()
    assert descriptors() <= before
