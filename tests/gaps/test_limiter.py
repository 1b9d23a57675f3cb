"""When the status endpoint may be called; `models/test_rate_limits.py` has the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bridge.gaps.limiter import Limiter, Limits, Purpose, read_limits
from bridge.outbox.values import Spent
from bridge.sandbox.api import RateLimiter
from tests.gaps.limited import BASIC, DAY_SECONDS, NOON_US, now_us


_HOUR_US = 3600 * 1_000_000
_HALF_PAST = "Sat, 31 Jan 2026 12:30:00 GMT"


# -- Headers -------------------------------------------------------------------


def _read(status: int = 200, **headers: str) -> Limits:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_limits(status, named, datetime(2026, 1, 31, 12, tzinfo=UTC))


_HEADERS = {
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
        (_HEADERS, Limits(50, 49, 200, 7)),
        (dict.fromkeys(_HEADERS, " 50 "), Limits(50, 50, 50, 50)),
        # A limit of 0 would never be tried again, so its end would not be seen.
        (dict.fromkeys(_HEADERS, "0"), Limits(None, 0, None, 0)),
        *(
            (
                dict.fromkeys(_HEADERS, nonsense)
                | {"x_ratelimit_daily_remaining": "7"},
                Limits(day_remaining=7),
            )
            for nonsense in _NONSENSE
        ),
    ],
)
def test_each_header_that_is_a_number_is_read(
    headers: dict[str, str], limits: Limits
) -> None:
    """One that isn't doesn't invalidate the others."""
    assert _read(200, **headers) == limits


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 12 "}, 12.0),
        ({"retry_after": "9" * 99}, 86_400.0),
        ({"retry_after": "Sat, 31 Jan 2026 12:01:30 -0000"}, 90.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry_after": "Sat, 31 Jan 2099 12:00:00 GMT"}, 86_400.0),
        ({"retry_after": "Sat, 31 Jan 99999999999999999999 12:00:00 GMT"}, None),
        ({"retry_after": "-5"}, None),
        ({}, None),
        # By the server's clock where it reports it.
        ({"retry_after": _HALF_PAST, "date": "Sat, 31 Jan 2026 12:29:30 GMT"}, 30.0),
        ({"retry_after": _HALF_PAST, "date": "now"}, 1800.0),
    ],
)
def test_a_wait_is_seconds_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    """A day at most."""
    assert _read(429, **headers).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"x_ratelimit_type": " Daily "}, "daily"),
        ({"x_ratelimit_type": "minute", "x_ratelimit_daily_remaining": "0"}, "minute"),
        ({"x_ratelimit_type": "hourly"}, "minute"),
        ({"x_ratelimit_daily_remaining": "0"}, "daily"),
        ({"retry_after": "60"}, "minute"),
        ({"retry_after": "7200"}, "daily"),
        ({}, "minute"),
    ],
)
def test_a_refusal_is_by_the_minute_or_the_day(
    headers: dict[str, str], kind: str
) -> None:
    """Where it doesn't name the limit, the remaining calls or the wait show it."""
    assert _read(429, **headers).limited_by == kind
    assert _read(503, **headers).limited_by is None


# -- Calls ---------------------------------------------------------------------


class Calls:
    """A limiter with a clock, and calls that are answered at once."""

    def __init__(
        self, reserve_percent: int = 25, spent: Spent | None = None, **more: Any
    ) -> None:
        self.now = 0.0
        self.limiter = Limiter(
            lambda: self.now,
            reserve_percent=reserve_percent,
            now_us=lambda: NOON_US + round(self.now * 1_000_000),
            spent=spent,
            **more,
        )

    def __call__(
        self,
        count: int = 1,
        response: Limits | Callable[[], Limits] = Limits(),  # noqa: B008 - frozen
        purpose: Purpose = Purpose.GAP,
        *,
        failed: bool = False,
    ) -> list[float]:
        """Make calls, each as soon as it is possible; give when those on this day."""
        moments: list[float] = []
        while len(moments) < count:
            at = self.limiter.possible_at(purpose)
            if at is None:
                break
            if at > self.now:
                self.now = at
                continue
            self.limiter.begin(purpose)
            limits = response() if callable(response) else response
            self.limiter.end(limits, failed=failed)
            moments.append(self.now)
        return moments

    @property
    def left(self) -> tuple[int, int | None]:
        """How many are left in this minute and on this day."""
        left = self.limiter.remaining
        return left["minute"] or 0, left["day"]


def test_a_server_that_reports_nothing_counts_as_a_basic_accounts() -> None:
    """Three quarters of 50 calls a minute and of 200 a day, by the bridge's count."""
    calls = Calls()
    moments = calls(1000)
    assert len(moments) == 150
    assert all(moments[n + 37] - moments[n] >= 60 for n in range(150 - 37))
    assert moments[-1] == 240
    calls.now = DAY_SECONDS
    assert len(calls(1000)) == 150


def test_a_minutes_limit_alone_says_that_the_day_has_none() -> None:
    """Not so in a failure or a refusal, which may be another server's."""
    calls = Calls()
    days = []
    for reported, failed in (
        (Limits(300, 0, retry_after_seconds=1, limited_by="minute"), False),
        (Limits(retry_after_seconds=1, limited_by="minute"), False),
        (Limits(), False),
        (Limits(300, 299), True),
        (Limits(300, 299), False),
        (BASIC, False),
    ):
        calls(1, reported, failed=failed)
        days.append(calls.left[1])
    assert days == [149, 148, 147, 147, None, 149]


@pytest.mark.parametrize(
    ("reserve", "minute", "day"),
    [(0, 50, 200), (25, 37, 150), (99, 0, 2), (100, 0, 0)],
)
def test_the_reserve_is_of_minute_and_day(reserve: int, minute: int, day: int) -> None:
    """Rounded in favor of the user's programs; nothing waits for a call of none."""
    calls = Calls(reserve)
    assert calls.left == (minute, day)
    moments = calls(1000)
    assert len(moments) == (day if minute else 0)
    assert moments.count(0.0) == minute


@pytest.mark.parametrize(
    ("reported", "minute", "day"),
    [
        (Limits(50, 49, 200, 199), 36, 149),
        (Limits(50, 20, 200, 60), 7, 10),
        (Limits(50, 5, 200, 50), 0, 0),
        (Limits(50, 99, 200, 999), 37, 150),
        (Limits(minute_remaining=20, day_remaining=60), 7, 10),
        (Limits(300, 299, 5000, 4999), 224, 3749),
    ],
)
def test_the_server_is_right_about_what_is_left(
    reported: Limits, minute: int, day: int
) -> None:
    """It counts the calls of the user's programs, and has forgotten older ones."""
    calls = Calls()
    calls(30)
    calls(1, reported)
    assert calls.left == (minute, day)


def test_a_call_in_flight_counts() -> None:
    """Also one that never ends: it may have arrived."""
    calls = Calls()
    calls.limiter.begin(Purpose.GAP)
    assert calls.left == (36, 149)


def test_stale_jobs_get_a_quarter_of_minute_and_day() -> None:
    """The rest is left to gaps."""
    calls = Calls()
    moments = calls(1000, purpose=Purpose.STALE)
    assert len(moments) == 37
    assert all(moments[n + 9] - moments[n] >= 60 for n in range(37 - 9))
    assert len(calls(1000)) == 150 - 37


# -- Waits ---------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "waits"), [(45.0, 45.0), (None, 60.0), (0.0, 60.0)])
def test_a_minutes_refusal_is_obeyed(asked: float | None, waits: float) -> None:
    """Without a wait that helps it is a minute."""
    calls = Calls()
    calls(1, Limits(retry_after_seconds=asked, limited_by="minute"))
    assert calls() == [waits]


@pytest.mark.parametrize(
    ("asked", "waits"), [(3600.0, 3600.0), (None, DAY_SECONDS), (0.0, DAY_SECONDS)]
)
def test_a_days_refusal_ends_the_day(asked: float | None, waits: float) -> None:
    """Until the time that the server names, and in the next process as well."""
    spent: list[Spent] = []
    calls = Calls(on_spent=spent.append)
    calls(1, Limits(retry_after_seconds=asked, limited_by="daily"))
    after = Calls(spent=spent[-1])
    for each in (calls, after):
        each.now = waits - 1
        assert each() == []
        each.now = waits
        assert each.left == (37, 150)
        assert each() == [waits]


def test_waits_after_failures_double_up_to_a_minute() -> None:
    """From one second, with jitter; a response ends it."""
    calls = Calls()
    waits = [late - early for early, late in pairwise(calls(12, failed=True))]
    were_failing = calls.limiter.is_backing_off
    for number, wait in enumerate(waits, 1):
        longest = min(60, 2**number)
        assert longest / 2 <= wait <= longest
    assert len(set(waits[6:])) > 1
    calls()
    assert (were_failing, calls.limiter.is_backing_off) == (True, False)
    began = calls.now
    calls(1, failed=True)
    assert calls()[0] - began <= 2


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(40, 40, 40), (0, 1, 2), (9000, 300, 300)]
)
def test_a_failing_server_may_ask_for_a_longer_wait(
    asked: float, least: float, most: float
) -> None:
    """Five minutes at most: a 503 doesn't know how long it lasts."""
    calls = Calls()
    calls(1, Limits(retry_after_seconds=asked), failed=True)
    assert least <= calls()[0] <= most


def test_an_incident_does_not_use_the_day_up() -> None:
    """Failed calls aren't the day's, whatever they were for."""
    calls = Calls()
    for purpose in Purpose:
        calls(300, purpose=purpose, failed=True)
    assert len(calls(1000, purpose=Purpose.STALE)) == 37
    assert len(calls(1000)) == 150 - 37


# -- Restarts ------------------------------------------------------------------


def test_a_restart_keeps_the_days_count() -> None:
    """What is left is what was left, until the day that had begun is over."""
    spent: list[Spent] = []
    calls = Calls(on_spent=spent.append)
    calls(100)
    calls = Calls(spent=spent[-1])
    assert calls.left[1] == 50
    moments = calls(1000)
    assert len(moments) == 50
    calls.now = DAY_SECONDS
    assert len(calls(1000)) == 150


@pytest.mark.parametrize(
    ("hours_ago", "left"), [(20, 30), (24, 150), (10_000, 150), (-87_600, 30)]
)
def test_an_old_count_is_forgotten(hours_ago: int, left: int) -> None:
    """A clock that was set back makes a day begin now, and last a day at most."""
    calls = Calls(spent=Spent(NOON_US - hours_ago * _HOUR_US, 120))
    assert calls.left[1] == left
    calls.now = DAY_SECONDS
    assert calls.left[1] == 150


def test_an_account_without_a_daily_limit_leaves_no_count() -> None:
    """Else the next process, which assumes a Basic account, could never find out."""
    spent: list[Spent] = []
    calls = Calls(on_spent=spent.append)
    assert len(calls(1000, Limits(300, 299))) == 1000
    assert spent[-1].calls == 0
    assert len(Calls(spent=spent[-1])(1000, Limits(300, 299))) == 1000


# -- The sandbox's limits, and figures of docs/evaluate/gaps-and-recovery.md ------


def _rows(head: str) -> list[list[str]]:
    """Give the cells of the table whose head begins so."""
    page = Path(__file__).parents[2] / "docs" / "evaluate" / "gaps-and-recovery.md"
    text = page.read_text(encoding="utf-8")
    (table,) = re.findall(
        rf"^\| {re.escape(head)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def _asked(
    plan: Any, jobs: int, purpose: Purpose = Purpose.GAP, reserve: int = 25
) -> list[float]:
    """Ask a day's calls of the sandbox's limits; give when each was answered."""
    began = trio.current_time()
    limiter = Limiter(trio.current_time, reserve_percent=reserve, now_us=now_us)
    server = RateLimiter(plan)
    answered: list[float] = []
    while len(answered) < jobs:
        at = limiter.possible_at(purpose)
        if at is None:
            break
        await trio.sleep_until(at)
        if limiter.possible_at(purpose) != at:
            continue
        limiter.begin(purpose)
        await trio.sleep(0.05)
        allowance = server.take()
        assert allowance.allowed
        headers = {name.lower(): value for name, value in allowance.headers.items()}
        limits = read_limits(200, headers, datetime.now(UTC))
        limiter.end(limits)
        answered.append(trio.current_time() - began)
    return answered


@pytest.mark.parametrize(
    "row", _rows("jobs in flight at a gap"), ids=lambda row: row[0]
)
async def test_the_limits_of_both_plans_are_kept(
    autojump_clock: MockClock, row: list[str]
) -> None:
    """No call is refused, and the page says how long the jobs of a gap take."""
    jobs = int(row[0].replace(",", ""))
    for plan, cell in zip(("basic", "premium"), row[1:], strict=True):
        answered = await _asked(plan, jobs)
        # The bridge listens for five seconds first.
        minutes, seconds = divmod(5 + answered[-1], 60)
        assert seconds < 20
        took = f"{minutes:.0f} minutes" if minutes else "seconds"
        unknown = jobs - len(answered)
        if unknown:
            took = f"{len(answered)} of them in {took}, {unknown:,} stay unknown"
        assert cell == took


async def test_the_shares_are_those_of_the_page(autojump_clock: MockClock) -> None:
    """What a minute and a day leave to gaps, and to stale jobs."""
    table = {row[0]: row[1:] for row in _rows("calls")}
    for purpose, reserve, name in (
        (Purpose.GAP, 25, "gaps"),
        (Purpose.STALE, 25, "stale jobs"),
        (Purpose.GAP, 0, "gaps, with a reserve of 0"),
    ):
        basic = await _asked("basic", 1000, purpose, reserve)
        premium = await _asked("premium", 350, purpose, reserve)
        in_a_minute = [sum(at < 60 for at in each) for each in (basic, premium)]
        assert table[name] == [
            f"{in_a_minute[0]} a minute, {len(basic)} a day",
            f"{in_a_minute[1]} a minute",
        ]
