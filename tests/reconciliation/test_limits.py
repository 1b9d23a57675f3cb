"""What headers say about limits, and what is nonsense in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from bridge.reconciliation.limits import Limits, read_limits


NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def _read(status: int = 200, **headers: str) -> Limits:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_limits(status, named, NOW)


_BASIC = {
    "x_ratelimit_limit": "50",
    "x_ratelimit_remaining": "49",
    "x_ratelimit_daily_limit": "200",
    "x_ratelimit_daily_remaining": "7",
}
_NONSENSE = ["", "many", "-1", "4.5", "1e3", "50, 50", "0x32", "\u0665\u0660", "9" * 10]


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, Limits()),
        (_BASIC, Limits(50, 49, 200, 7)),
        (dict.fromkeys(_BASIC, " 50 "), Limits(50, 50, 50, 50)),
        # A limit of 0 would never be tried again, so that its end would not be seen.
        (dict.fromkeys(_BASIC, "0"), Limits(None, 0, None, 0)),
        # One that is no number doesn't take the others with it.
        *(
            (
                dict.fromkeys(_BASIC, no_number) | {"x_ratelimit_daily_remaining": "7"},
                Limits(day_remaining=7),
            )
            for no_number in _NONSENSE
        ),
    ],
)
def test_numbers_are_read(headers: dict[str, str], limits: Limits) -> None:
    """Each where it is one."""
    assert _read(200, **headers) == limits


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("86401", 86_400.0),
        ("9" * 99, 86_400.0),
        ("Sat, 31 Jan 2026 12:01:30 GMT", 90.0),
        ("Sat, 31 Jan 2026 12:01:30 -0000", 90.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Sat, 31 Jan 2099 12:00:00 GMT", 86_400.0),
        ("soon", None),
        ("Sat, 31 Jan 99999999999999999999 12:00:00 GMT", None),
        ("Sat, 31 Jan 2026 12:00:00 +99999999999999999999", None),
        ("-5", None),
        ("", None),
    ],
)
def test_a_wait_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """A day at most."""
    assert _read(429, retry_after=value).retry_after_seconds == seconds


def test_a_date_is_meant_by_the_servers_clock() -> None:
    """Where the answer says what time it is there; nonsense about it is passed over."""
    until = "Sat, 31 Jan 2026 15:00:30 GMT"
    date = "Sat, 31 Jan 2026 15:00:00 GMT"
    assert _read(429, retry_after=until, date=date).retry_after_seconds == 30
    for nonsense in ("now", f"Sat, {'9' * 20} Jan 2026 12:00:00 GMT"):
        limits = _read(429, retry_after=until, date=nonsense)
        assert limits.retry_after_seconds == 10_830


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"x_ratelimit_type": "minute"}, "minute"),
        ({"x_ratelimit_type": "daily"}, "daily"),
        ({"x_ratelimit_type": " Daily "}, "daily"),
        ({"x_ratelimit_type": "minute", "x_ratelimit_daily_remaining": "0"}, "minute"),
        ({}, "minute"),
        ({"x_ratelimit_type": "hourly"}, "minute"),
        ({"x_ratelimit_daily_remaining": "0"}, "daily"),
        ({"retry_after": "60"}, "minute"),
        ({"retry_after": "7200"}, "daily"),
    ],
)
def test_a_refusal_is_a_minutes_or_a_days(headers: dict[str, str], kind: str) -> None:
    """What it doesn't say is seen by what is left, or by how long it lasts."""
    assert _read(429, **headers).limited_by == kind


@pytest.mark.parametrize("status", [200, 404, 503])
def test_only_a_refusal_names_a_limit(status: int) -> None:
    """A header that stands in each answer limits nothing."""
    assert _read(status, x_ratelimit_type="daily").limited_by is None
