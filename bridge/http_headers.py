"""
What header fields of HTTP say of time, whoever sent them: nonsense says nothing.

How long a wish is heeded is decided by who asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


__all__ = ["date_of", "retry_after_seconds"]


def date_of(text: str) -> datetime | None:
    """Read `Date` or a date like it; None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # The latter for a year or an offset of twenty digits.
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def retry_after_seconds(value: str, asked: datetime) -> float | None:
    """
    Read `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.

    Args:
        value: The field's value.
        asked: When the answer was given: a date is so many seconds after it.

    Returns:
        The seconds, never below zero; None if it says nothing.
    """
    if value.isascii() and value.isdigit():
        # Ten digits are 300 years; more of them make float() slow.
        return float(value[:10])
    until = date_of(value)
    return None if until is None else max(0.0, (until - asked).total_seconds())
