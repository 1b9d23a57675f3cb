"""
The way to dryAPI's API, up to an answer in HTTP, and what time it is there.

It asks for nothing but headers and shows no token. Authorisation belongs to `accounts`.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from bridge import __version__
from bridge.doctor.branch import Branch, Found
from bridge.doctor.network import Place, branch_to, reached
from bridge.doctor.remedies import ProblemError
from bridge.http.client import date_of
from bridge.settings import Settings


__all__ = ["ENDPOINT", "api_branches", "walk_api"]

_SETTING: Final = "api_url (BRIDGE_API_URL)"

ENDPOINT: Final = (
    f"See that {_SETTING} is the base of dryAPI's API, and that no proxy or login page"
    " answers in its place"
)

_READ_BYTES: Final = 65_536

# `Date` has whole seconds, and an answer may be a second on its way.
_SKEW_SECONDS: Final = 5.0

# dryAPI's rule for webhooks: an older or newer timestamp is to be refused.
_WEBHOOK_SECONDS: Final = 300.0


def api_branches(settings: Settings, end: float) -> tuple[Branch, Branch]:
    """Give the branch to the API, and the one of the clock."""
    place = Place.of_url(settings.api_url, _SETTING)
    other = "http" if place.is_tls else "https"
    remedy = f"{ENDPOINT}; if this port wants {other}://, say so in {_SETTING}"
    return (
        branch_to(place, "api", ["api.http"], end, remedy),
        Branch(str(place), ["clock"], end),
    )


async def walk_api(
    branch: Branch, clock: Branch, settings: Settings, tls: ssl.SSLContext
) -> None:
    """Go to the API, and compare clocks."""
    place = Place.of_url(settings.api_url, _SETTING)
    with branch:
        async with reached(branch, "api", place, lambda: tls) as stream:
            with branch.step("api.http") as found:
                path = urlsplit(settings.api_url).path
                date = await _date(stream, place, path, found)
    clock.failed = branch.failed
    if branch.failed is None:
        with clock, clock.step("clock") as found:
            _compare(date, found)


async def _date(stream: trio.abc.Stream, place: Place, path: str, found: Found) -> str:
    """Ask for headers, whatever the status, and give that of the time."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="HEAD",
        target=path or "/",
        headers=[
            ("Host", str(place)),
            ("Accept", "application/json"),
            ("Connection", "close"),
            ("User-Agent", f"dryapi-kafka-bridge/{__version__}"),
        ],
    )
    remedy = f"See that {_SETTING} names dryAPI's API and its port"
    try:
        await stream.send_all(
            connection.send(request) + connection.send(h11.EndOfMessage())
        )
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                break
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
    except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
        raise ProblemError("what answers speaks no HTTP", remedy) from error
    found.detail = f"answers (HTTP {event.status_code})"
    for name, value in event.headers:
        if name == b"date":
            return value.decode("ascii", "replace")
    return ""


def _compare(date: str, found: Found) -> None:
    """Compare the API's clock with this machine's."""
    theirs = date_of(date)
    if theirs is None:
        found.warn(
            "dryAPI's answer has no time to compare with",
            "See that this machine's clock is kept right (NTP)",
        )
        return
    seconds = (datetime.now(UTC) - theirs).total_seconds()
    if abs(seconds) <= _SKEW_SECONDS:
        found.detail = f"within {_SKEW_SECONDS:g} s of dryAPI's"
        return
    way = "ahead of" if seconds > 0 else "behind"
    then = (
        ": signed webhooks would be refused, as those may be"
        f" {_WEBHOOK_SECONDS:g} s old"
        if abs(seconds) > _WEBHOOK_SECONDS
        else ""
    )
    found.warn(
        f"this machine's clock is {abs(seconds):.0f} s {way} dryAPI's{then}",
        "Have this machine's clock kept right (NTP, chrony): records and gaps bear its"
        " time",
    )
