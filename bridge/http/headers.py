"""
The times in HTTP header fields. A value that isn't valid is treated as absent.

The caller decides how long it honors a `Retry-After`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


__all__ = ["date_of", "retry_after_seconds"]


def date_of(text: str) -> datetime | None:
    """Parse an HTTP date; None if it isn't one."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # The latter for a year or an offset of twenty digits.
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def retry_after_seconds(value: str, asked: datetime) -> float | None:
    """
    Parse `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.

    Args:
        value: The field's value.
        asked: When the response was received; a date is relative to it.

    Returns:
        The seconds, never below zero; None if the value isn't valid.
    """
    if value.isascii() and value.isdigit():
        # Ten digits are 300 years; more of them make float() slow.
        return float(value[:10])
    until = date_of(value)
    return None if until is None else max(0.0, (until - asked).total_seconds())
