"""
The steps to dryAPI: the Pusher server, the API, each account, the clock.

The Pusher server is connected to as the service does it, by the same `Connection.run`
with shorter deadlines: once up to the server's greeting, and once for each account
until it is subscribed. An event that arrives meanwhile is dropped here; a bridge that
runs at the same time receives it too.
"""

from __future__ import annotations

import math
import ssl
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec
import trio

from bridge.check.server import reach_steps, shake_hands
from bridge.check.step import Step
from bridge.errors import (
    AuthorizationError,
    BridgeError,
    ConnectError,
    RefusedError,
    SessionError,
)
from bridge.gaps.limiter import Limits
from bridge.gaps.status import Outcome, StatusClient
from bridge.http.client import ApiClient, ApiError, Authorizer, date_of
from bridge.http.streams import address_of
from bridge.pusher.close_codes import Action, EndedError
from bridge.pusher.connection import Authorize, Channel, Connection, Note
from bridge.pusher.protocol import channel_of
from bridge.pusher.websocket import open_websocket
from bridge.settings import Account, Settings


__all__ = ["dryapi_steps"]

_PUSHER_URL: Final = "pusher.url (BRIDGE_PUSHER_URL)"
_API_URL: Final = "api_url (BRIDGE_API_URL)"

_PUSHER_HINT: Final = (
    f"See that {_PUSHER_URL} names dryAPI's Pusher server, and that no proxy or load"
    " balancer between responds in its place"
)
_API_HINT: Final = (
    f"See that {_API_URL} is the base of dryAPI's API with the right scheme and port,"
    " and that no proxy or login page responds in its place"
)
_SUBSCRIPTION_HINT: Final = (
    f"See that {_PUSHER_URL}, pusher.app_key (BRIDGE_PUSHER_APP_KEY) and {_API_URL}"
    " belong to the same deployment"
)
_CREDENTIALS_HINT: Final = (
    "Check BRIDGE_API_TOKEN, or the account's api_token_file in [[accounts]]"
)
_LIMIT_HINT: Final = (
    "It passes by itself; if it happens again, see which programs use this account's"
    " token"
)
_CLOCK_HINT: Final = (
    "Have this machine's clock kept right (NTP, chrony): records and gaps have its time"
)
_PASSING_HINT: Final = "It may pass: the bridge tries again. If it stays, ask dryAPI"

# From the first packet to the greeting, and for a signature. The session sends a
# subscription twice, and waits as long for each acknowledgement.
_GREETING_SECONDS: Final = 3.0
_SIGNATURE_SECONDS: Final = 3.0
_SUBSCRIPTION_SECONDS: Final = 1.5

# As many accounts at once: a bridge with hundreds of them does the same.
_MAX_ACCOUNTS: Final = 16

# The base of an API has a page at most; a larger one isn't read to its end.
_MAX_PAGE_BYTES: Final = 65_536

# `Date` has whole seconds, and a response may take a second.
_MAX_SKEW_SECONDS: Final = 5.0

# dryAPI's rule for webhooks: an older or newer timestamp is to be refused.
_MAX_WEBHOOK_SECONDS: Final = 300.0


def dryapi_steps(
    settings: Settings, tls: Step[ssl.SSLContext]
) -> tuple[list[Step[Any]], Step[None]]:
    """Give the steps with dryAPI, and the one that compares its clock."""
    pusher = _server_steps("pusher", settings.pusher.url, _PUSHER_URL, tls)
    handshake = Step(
        "pusher.handshake",
        pusher[-1].subject,
        partial(_greet, settings, tls),
        _PUSHER_HINT,
        needs=pusher[-1:],
        seconds=math.inf,
    )
    api = _server_steps("api", settings.api_url, _API_URL, tls)
    http = Step(
        "api.http",
        api[-1].subject,
        partial(_ask_date, settings, tls),
        _API_HINT,
        needs=api[-1:],
    )
    limiter = trio.CapacityLimiter(_MAX_ACCOUNTS)
    accounts: list[Step[Any]] = []
    for account in settings.all_accounts:
        signed = Step(
            "authorization",
            account.client_id,
            partial(_authorize, account, settings, tls),
            _API_HINT,
            needs=[handshake, http],
            seconds=math.inf,
            limiter=limiter,
        )
        subscribed = Step(
            "subscription",
            account.client_id,
            partial(_report_subscription, signed),
            _SUBSCRIPTION_HINT,
            needs=[signed],
        )
        accounts += [signed, subscribed]
    limiter = trio.CapacityLimiter(_MAX_ACCOUNTS)
    status = [
        Step(
            "status",
            account.client_id,
            partial(_ask_status, account, settings, tls),
            _API_HINT,
            needs=[http],
            limiter=limiter,
            # Events come without it.
            spared="missed job ends would not be looked up",
        )
        for account in _first_of_each_token(settings)
    ]
    clock = Step(
        "clock", http.subject, partial(_compare, http), _CLOCK_HINT, needs=[http]
    )
    return [*pusher, handshake, *api, http, *accounts, *status], clock


def _server_steps(
    prefix: str, url: str, setting: str, tls: Step[ssl.SSLContext]
) -> list[Step[Any]]:
    parts = urlsplit(url)
    address = address_of(parts)
    steps = reach_steps(prefix, address, setting, needs=[tls])
    if parts.scheme in {"https", "wss"}:
        steps.append(
            Step(
                f"{prefix}.tls",
                address,
                partial(shake_hands, address, lambda: tls.value),
                f"See that {setting} has the port for TLS, and that nothing between"
                f" ends it; for a server without TLS it starts with"
                f" {parts.scheme[:-1]}://",
                needs=steps[-1:],
            )
        )
    return steps


# -- The Pusher server ---------------------------------------------------------


async def _greet(
    settings: Settings, tls: Step[ssl.SSLContext], step: Step[None]
) -> None:
    with trio.CancelScope() as scope:

        async def greeted(*_: str) -> NoReturn:
            # A signature is for the socket id, which the greeting has.
            scope.cancel()
            await trio.sleep_forever()

        client_id = settings.all_accounts[0].client_id
        await _subscribe(client_id, settings, tls.value, greeted)
    step.detail = "the app key is known"


async def _authorize(
    account: Account,
    settings: Settings,
    tls: Step[ssl.SSLContext],
    step: Step[SessionError | None],
) -> SessionError | None:
    """Subscribe; what fails after the signature is for the next step to report."""
    client = ApiClient(
        settings.api_url,
        account.api_token,
        timeout_seconds=_SIGNATURE_SECONDS,
        tls=lambda: tls.value,
    )
    authorizer = Authorizer(client, app_key=settings.pusher.app_key)

    def note(kind: str, **_: object) -> None:
        if kind == "authorized":
            step.detail = f"dryAPI signs for {channel_of(account.client_id)}"

    try:
        await _subscribe(
            account.client_id, settings, tls.value, authorizer.authorize, note
        )
    except SessionError as error:
        if not step.detail:
            raise
        return error
    return None


async def _report_subscription(
    signed: Step[SessionError | None], step: Step[None]
) -> None:
    if signed.value is not None:
        raise signed.value
    step.detail = "subscribed, and left again"


async def _subscribe(
    client_id: str,
    settings: Settings,
    tls: ssl.SSLContext,
    authorize: Authorize,
    note: Note | None = None,
) -> None:
    """Open a connection, and close it once it is subscribed."""
    pusher = settings.pusher
    channel = Channel(
        client_id,
        msgspec.structs.replace(
            pusher,
            connect_timeout_seconds=min(
                pusher.connect_timeout_seconds, _GREETING_SECONDS
            ),
            subscribe_timeout_seconds=min(
                pusher.subscribe_timeout_seconds, _SUBSCRIPTION_SECONDS
            ),
        ),
        authorize,
        partial(open_websocket, max_message_bytes=pusher.max_message_bytes, tls=tls),
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(Connection(channel, note).run)
            nursery.cancel_scope.cancel()
    except* EndedError as group:
        (ended,) = group.exceptions
        assert isinstance(ended, EndedError)
        raise _problem(ended) from ended


def _problem(ended: EndedError) -> SessionError:
    """Make the error for the end of a connection before it was subscribed."""
    message, hint, code = ended.message, ended.hint, ended.code or 0
    if code and str(code) not in message:
        message += f", {code}"
    is_signing = isinstance(ended.__cause__, AuthorizationError)
    if not hint and (code >= 500 if is_signing else 4000 <= code < 4300):
        hint = _PASSING_HINT
    if ended.action is Action.TERMINAL:
        return RefusedError(message, hint=hint, code=code)
    return SessionError(message, hint=hint)


# -- The API -------------------------------------------------------------------


async def _ask_date(
    settings: Settings, tls: Step[ssl.SSLContext], step: Step[str]
) -> str:
    """Send a request without a token, and give the time of the response."""
    client = ApiClient(
        settings.api_url,
        settings.all_accounts[0].api_token,
        timeout_seconds=math.inf,
        tls=lambda: tls.value,
    )
    try:
        response = await client.request("", max_bytes=_MAX_PAGE_BYTES, token=None)
    except ApiError as error:
        raise ConnectError(f"the response isn't HTTP: {error}") from error
    step.detail = f"answers (HTTP {response.status})"
    return response.headers.get("date", "")


async def _compare(http: Step[str], step: Step[None]) -> None:
    """Compare the API's clock with this machine's."""
    theirs = date_of(http.value)
    if theirs is None:
        step.warn("dryAPI's response has no time to compare with", _CLOCK_HINT)
        return
    seconds = (datetime.now(UTC) - theirs).total_seconds()
    if abs(seconds) <= _MAX_SKEW_SECONDS:
        step.detail = f"within {_MAX_SKEW_SECONDS:g} s of dryAPI's"
        return
    detail = (
        f"this machine's clock is {abs(seconds):.0f} s"
        f" {'ahead of' if seconds > 0 else 'behind'} dryAPI's"
    )
    if abs(seconds) > _MAX_WEBHOOK_SECONDS:
        detail += (
            ": signed webhooks would be refused, as those may be"
            f" {_MAX_WEBHOOK_SECONDS:g} s old"
        )
    step.warn(detail, _CLOCK_HINT)


def _first_of_each_token(settings: Settings) -> list[Account]:
    if not settings.reconciliation.enabled:
        return []
    found: dict[str, Account] = {}
    for account in settings.all_accounts:
        found.setdefault(account.api_token.reveal(), account)
    return list(found.values())


async def _ask_status(
    account: Account,
    settings: Settings,
    tls: Step[ssl.SSLContext],
    step: Step[None],
) -> None:
    """Ask about a job that doesn't exist: one call of a minute and of a day."""
    async with StatusClient(
        settings.api_url,
        account.api_token,
        timeout_seconds=math.inf,
        tls=lambda: tls.value,
    ) as client:
        answer = await client.ask(str(uuid.uuid4()))
    status, left = f"HTTP {answer.status}", _left(answer.limits)
    match answer.outcome:
        case Outcome.NOT_FOUND:
            step.detail = f"answers ({status}){left}"
        case Outcome.ANSWERED:
            raise BridgeError(f"answers with {status} about a job that doesn't exist")
        case Outcome.LIMITED:
            span = "day" if answer.limits.limited_by == "daily" else "minute"
            message = f"the calls of this {span} are used up{left}"
            raise BridgeError(message, hint=_LIMIT_HINT)
        case Outcome.REFUSED:
            refused = f"dryAPI refused the API token ({status})"
            message = refused if answer.status else answer.reason
            raise BridgeError(message, hint=_CREDENTIALS_HINT)
        case _:
            is_passing = (answer.status or 0) >= 500
            hint = _PASSING_HINT if is_passing else ""
            raise BridgeError(answer.reason, hint=hint)


def _left(limits: Limits) -> str:
    """Describe how many calls are left, as far as the response says it."""
    parts = [
        f"{remaining} of {allowed} calls of this {span}"
        for remaining, allowed, span in (
            (limits.minute_remaining, limits.per_minute, "minute"),
            (limits.day_remaining, limits.per_day, "day"),
        )
        if remaining is not None and allowed is not None
    ]
    return f"; left are {' and '.join(parts)}" if parts else ""
