"""
What an answer of the status endpoint says about the account's limits.

Reads headers, and knows nothing of what was asked or will be: that stands in `budget`.
What is no number, or none that can be meant, counts as not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from bridge.http.client import date_of, retry_after_seconds


__all__ = ["Limits", "read_limits"]

_MOST_RETRY_AFTER_SECONDS: Final = 86_400.0

# Nobody allows a thousand million calls, and int() is slow with thousands of digits.
_MOST_DIGITS: Final = 9

_TOO_MANY_REQUESTS: Final = 429

# A minute's limit can't ask for as long a wait: what does, and doesn't say of which
# kind it is, is a day's.
_LONGEST_MINUTE_SECONDS: Final = 3600.0


class Limits(msgspec.Struct, frozen=True):
    """
    What one answer says; None where it says nothing.

    Attributes:
        per_minute: How many calls a minute allows.
        minute_remaining: How many of them are left.
        per_day: How many calls a day allows.
        day_remaining: How many of them are left.
        retry_after_seconds: How long to wait before the next call, a day at most.
        limited_by: Which limit refused the call; None if none did.
    """

    per_minute: int | None = None
    minute_remaining: int | None = None
    per_day: int | None = None
    day_remaining: int | None = None
    retry_after_seconds: float | None = None
    limited_by: Literal["minute", "daily"] | None = None


def read_limits(status: int, headers: Mapping[str, str], now: datetime) -> Limits:
    """
    Read the limits of an answer.

    Args:
        status: Its HTTP status.
        headers: Its headers; names in small letters are found.
        now: This moment, with a time zone, for a `Retry-After` that is a date.
    """
    retry_after = _retry_after(headers, now)
    day_remaining = _number(headers.get("x-ratelimit-daily-remaining"))
    limited_by: Literal["minute", "daily"] | None = None
    if status == _TOO_MANY_REQUESTS:
        kind = headers.get("x-ratelimit-type", "").strip().lower()
        is_daily = day_remaining == 0 or (retry_after or 0) > _LONGEST_MINUTE_SECONDS
        if kind == "daily" or (kind != "minute" and is_daily):
            limited_by = "daily"
        else:
            limited_by = "minute"
    return Limits(
        # A limit of none can't be meant: it would be learned once, and for ever.
        _number(headers.get("x-ratelimit-limit")) or None,
        _number(headers.get("x-ratelimit-remaining")),
        _number(headers.get("x-ratelimit-daily-limit")) or None,
        day_remaining,
        retry_after,
        limited_by,
    )


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        return None
    return int(text)


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read how long dryAPI wants to be left alone."""
    # By the server's own clock, where it tells it: ours may be set otherwise.
    asked = date_of(headers.get("date", "")) or now
    seconds = retry_after_seconds(headers.get("retry-after", "").strip(), asked)
    return None if seconds is None else min(seconds, _MOST_RETRY_AFTER_SECONDS)
