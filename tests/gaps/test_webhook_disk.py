"""Bodies that are large, slow or broken off, and a disk that fails."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx  # noqa: TID251 - the client of the sandbox
import pytest
import structlog
import trio
from trio.testing import MockClock

from bridge.errors import OutboxFullError
from bridge.http.server import serve
from bridge.settings import Secret
from tests.gaps.webhooks import (
    MAX_BODY_BYTES,
    NOW,
    PATH,
    SECRET,
    MemoryOutbox,
    Receiving,
    body_of,
    completed,
    failed,
    in_pieces,
    request_of,
)
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start, http, start  # noqa: F401 - fixtures


# -- Bodies ----------------------------------------------------------------------------


async def test_body_is_taken_whole_and_up_to_the_limit(nursery: trio.Nursery) -> None:
    """One above the limit is refused before its end, with its length or in chunks."""
    receiving = Receiving(MemoryOutbox())
    port: int = await nursery.start(serve, receiving.receiver.app, "127.0.0.1:0")
    empty = len(body_of("job.failed", failed(error_message="")))
    for more, status in ((0, b"200"), (1, b"413")):
        message = "x" * (MAX_BODY_BYTES - empty + more)
        body = body_of("job.failed", failed(error_message=message))
        headers = receiving.headers(body)
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        # There is no last chunk of zero bytes where the body is above the limit.
        chunks = chunk if more else chunk + b"0\r\n\r\n"
        for request in (
            request_of(body, headers),
            request_of(chunks, headers, framing="Transfer-Encoding: chunked"),
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request)
                answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 " + status)
    assert receiving.outcomes() == {"taken": 1, "known": 1, "too_large": 2}
    nursery.cancel_scope.cancel()


async def test_sender_that_hangs_up_has_sent_its_webhook(
    nursery: trio.Nursery,
) -> None:
    """A whole request is taken without its sender; a part of one is not kept."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox)
    port: int = await nursery.start(serve, receiving.receiver.app, "127.0.0.1:0")
    body = body_of("job.completed", completed())
    request = request_of(body, receiving.headers(body))
    for sent, outcomes in (
        (request[:-1], {"broken_off": 1}),
        (request, {"broken_off": 1, "taken": 1}),
    ):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(sent)
        await wait_until(lambda: len(receiving.outcomes()) == len(outcomes))  # noqa: B023
        assert receiving.outcomes() == outcomes
    assert len(outbox.deliveries) == 1
    nursery.cancel_scope.cancel()


async def test_unsigned_body_is_not_read() -> None:
    """A forgery costs little."""
    asked = []

    async def body() -> Any:
        asked.append(True)
        yield b""

    answer = await Receiving(MemoryOutbox()).http.post(PATH, content=body())
    assert (answer.status_code, asked) == (401, [])


# -- The disk --------------------------------------------------------------------------


async def test_commit_that_hangs_is_503(autojump_clock: MockClock) -> None:
    """After eight seconds, those of the body included; dryAPI waits for ten."""
    outbox = MemoryOutbox()
    outbox.trouble = "silent"
    receiving = Receiving(outbox, now=NOW)
    body = body_of("job.completed", completed())
    begun = trio.current_time()
    pieces = in_pieces(body, len(body), 3)
    headers = receiving.headers(body)
    with structlog.testing.capture_logs() as log:
        answer = await receiving.http.post(PATH, content=pieces, headers=headers)
    assert trio.current_time() - begun == pytest.approx(8)
    assert (answer.status_code, answer.content) == (503, b"")
    assert answer.headers["retry-after"] == "60"
    # What hasn't begun is not done any more.
    (future,) = outbox.unanswered
    assert future.cancelled()
    assert receiving.outcomes() == {"unavailable": 1}
    assert receiving.events() == {}
    assert "within 8 s" in log[0]["reason"]


async def test_answer_waits_for_the_commit(autojump_clock: MockClock) -> None:
    """A commit in the last moment is 200."""
    outbox = MemoryOutbox()
    outbox.trouble = "silent"
    receiving = Receiving(outbox)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def commit() -> None:
            await trio.sleep(7.9)
            outbox.unanswered[0].set_result(True)

        nursery.start_soon(commit)
        answer = await receiving.post(body_of("job.completed", completed()))
        assert trio.current_time() - begun == pytest.approx(7.9)
    assert answer.json() == {"status": "taken"}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (OutboxFullError("raise outbox.max_bytes"), "raise outbox.max_bytes"),
        ("closed", "the outbox has ended"),
    ],
)
async def test_commit_that_fails_is_503_at_once(
    autojump_clock: MockClock, trouble: Any, reason: str
) -> None:
    """The same delivery is taken when it comes again."""
    outbox = MemoryOutbox()
    outbox.trouble = trouble
    receiving = Receiving(outbox)
    body = body_of("job.completed", completed())
    begun = trio.current_time()
    with structlog.testing.capture_logs() as log:
        answer = await receiving.post(body)
    assert (answer.status_code, trio.current_time()) == (503, begun)
    assert reason in log[0]["reason"]
    outbox.trouble = None
    assert (await receiving.post(body)).json() == {"status": "taken"}


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
async def test_bridge_without_room_gets_the_webhook_again(
    start: Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    nursery: trio.Nursery,
    prefix: str,
) -> None:
    """The sandbox sends it again with the same id and a new signature."""
    outbox = MemoryOutbox()
    outbox.trouble = OutboxFullError("full")
    receiving = Receiving(outbox, secret=Secret(f"old {SECRET}"))
    port: int = await nursery.start(serve, receiving.receiver.app, "127.0.0.1:0")
    sandbox, base = await start(
        webhook_url=f"http://127.0.0.1:{port}{PATH}",
        webhook_secret=SECRET,
        webhook_prefix=prefix,
        webhook_retry_scale=0.001,
    )
    counts = sandbox.statistics.webhooks
    for fails in (False, True):
        job = {"interval_seconds": 0, "steps": 1, "fail": fails}
        await http.post(f"{base}/jobs", json=job)
    await wait_until(lambda: counts.tries >= 6)
    outbox.trouble = None
    await wait_until(lambda: counts.delivered == 4)
    events = [json.loads(one.record.value) for one in outbox.deliveries]
    found = sorted(event["status"] for event in events)
    assert found == ["done", "error", "processing", "processing"]
    ends = [one.ended_us for one in outbox.deliveries if one.ended_us is not None]
    assert len(ends) == 2
    assert all(abs(time.time() - end_us / 1_000_000) < 60 for end_us in ends)
    assert receiving.outcomes() == {"taken": 4, "unavailable": counts.retries}
