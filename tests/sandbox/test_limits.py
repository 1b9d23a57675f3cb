"""The status endpoint's limits, under trio's clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from bridge.sandbox.limits import RateLimiter


async def test_the_fifty_first_call_of_a_minute_is_refused(
    autojump_clock: MockClock,
) -> None:
    """A minute allows 50 calls and says when the next one may come."""
    limiter = RateLimiter("basic")
    first = limiter.take()
    assert first.allowed
    assert first.headers == {
        "X-RateLimit-Limit": "50",
        "X-RateLimit-Remaining": "49",
        "X-RateLimit-Daily-Limit": "200",
        "X-RateLimit-Daily-Remaining": "199",
    }
    await trio.sleep(15)
    assert all(limiter.take().allowed for _ in range(49))
    refused = limiter.take()
    assert not refused.allowed
    assert refused.headers["X-RateLimit-Type"] == "minute"
    assert refused.headers["Retry-After"] == "45"
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["X-RateLimit-Daily-Remaining"] == "150"
    await trio.sleep(45)
    assert limiter.take().allowed


async def test_the_two_hundred_first_call_of_a_day_is_refused(
    autojump_clock: MockClock,
) -> None:
    """A day allows 200 calls, however they are spread."""
    limiter = RateLimiter("basic")
    for _ in range(4):
        assert all(limiter.take().allowed for _ in range(50))
        await trio.sleep(60)
    refused = limiter.take()
    assert not refused.allowed
    assert refused.headers["X-RateLimit-Type"] == "daily"
    assert refused.headers["Retry-After"] == str(86_400 - 240)
    assert refused.headers["X-RateLimit-Remaining"] == "50"
    await trio.sleep(86_400 - 240)
    assert limiter.take().allowed


async def test_premium_has_no_day(autojump_clock: MockClock) -> None:
    """Premium allows 300 a minute, day and night."""
    limiter = RateLimiter("premium")
    for _ in range(10):
        assert all(limiter.take().allowed for _ in range(300))
        refused = limiter.take()
        assert not refused.allowed
        assert refused.headers["X-RateLimit-Type"] == "minute"
        assert "X-RateLimit-Daily-Limit" not in refused.headers
        await trio.sleep(60)
