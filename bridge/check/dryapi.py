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
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import trio

from bridge.check.server import add_server, shake_hands
from bridge.check.step import Step, Steps
from bridge.errors import (
    AuthorizationError,
    BridgeError,
    ConnectError,
    RefusedError,
    SessionError,
)
from bridge.gaps.limiter import Limits
from bridge.gaps.status import Answer, Outcome, ask
from bridge.http.client import ApiClient, ApiError, date_of
from bridge.http.streams import address_of
from bridge.pusher.authorizer import authorize
from bridge.pusher.close_codes import Action, EndedError
from bridge.pusher.connection import Authorize, Channel, Connection, Note
from bridge.pusher.protocol import channel_of
from bridge.pusher.websocket import open_websocket
from bridge.settings import Account, Settings


__all__ = ["add_accounts", "add_api", "add_clock", "add_pusher", "add_status"]

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

# Whom to trust at dryAPI, from the step of the settings.
_Tls = Step[ssl.SSLContext]


def _add_server(
    steps: Steps, prefix: str, url: str, setting: str, tls: _Tls
) -> Step[None]:
    parts = urlsplit(url)
    tcp = add_server(steps, prefix, address_of(parts), setting, needs=[tls])
    if parts.scheme not in {"https", "wss"}:
        return tcp
    hint = (
        f"See that {setting} has the port for TLS, and that nothing between ends it;"
        f" for a server without TLS it starts with {parts.scheme[:-1]}://"
    )

    @steps.step(f"{prefix}.tls", tcp.subject, hint, needs=[tcp])
    async def secured(step: Step[None]) -> None:
        await shake_hands(lambda: tls.value, step)

    return secured


# -- The Pusher server ---------------------------------------------------------


def add_pusher(steps: Steps, settings: Settings, tls: _Tls) -> Step[None]:
    """Add the steps to the server's greeting, and give the last one."""
    server = _add_server(steps, "pusher", settings.pusher.url, _PUSHER_URL, tls)

    @steps.step(
        "pusher.handshake",
        server.subject,
        _PUSHER_HINT,
        needs=[server],
        seconds=math.inf,
    )
    async def handshake(step: Step[None]) -> None:
        with trio.CancelScope() as scope:

            async def greeted(*_: str) -> NoReturn:
                # A signature is for the socket id, which the greeting has.
                scope.cancel()
                await trio.sleep_forever()

            client_id = settings.all_accounts[0].client_id
            await _subscribe(client_id, settings, tls.value, greeted)
        step.detail = "the app key is known"

    return handshake


def add_accounts(
    steps: Steps, settings: Settings, tls: _Tls, needs: Sequence[Step[Any]]
) -> None:
    """Add each account's subscription, over a connection of its own."""
    limiter = trio.CapacityLimiter(_MAX_ACCOUNTS)
    for account in settings.all_accounts:
        _add_account(steps, account, settings, tls, needs=needs, limiter=limiter)


def _add_account(
    steps: Steps, account: Account, settings: Settings, tls: _Tls, **options: object
) -> None:
    client_id = account.client_id

    @steps.step("authorization", client_id, _API_HINT, seconds=math.inf, **options)
    async def authorization(step: Step[SessionError | None]) -> SessionError | None:
        client = ApiClient(
            settings.api_url,
            account.api_token,
            timeout_seconds=_SIGNATURE_SECONDS,
            tls=lambda: tls.value,
        )

        def note(kind: str, **_: object) -> None:
            if kind == "authorized":
                step.detail = f"dryAPI signs for {channel_of(client_id)}"

        try:
            sign = partial(authorize, client, settings.pusher.app_key)
            await _subscribe(client_id, settings, tls.value, sign, note)
        except SessionError as error:
            if not step.detail:
                raise
            # The next step's.
            return error
        return None

    @steps.step("subscription", client_id, _SUBSCRIPTION_HINT, needs=[authorization])
    async def _(step: Step[None]) -> None:
        if authorization.value is not None:
            raise authorization.value
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
        replace(
            pusher,
            timeout_seconds=min(pusher.timeout_seconds, _GREETING_SECONDS),
        ),
        authorize,
        partial(open_websocket, tls=tls),
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


def add_api(steps: Steps, settings: Settings, tls: _Tls) -> Step[str]:
    """Add the steps to a response without a token; its time is the last one's value."""
    server = _add_server(steps, "api", settings.api_url, _API_URL, tls)

    @steps.step("api.http", server.subject, _API_HINT, needs=[server])
    async def http(step: Step[str]) -> str:
        client = ApiClient(
            settings.api_url,
            None,
            timeout_seconds=math.inf,
            tls=lambda: tls.value,
        )
        try:
            response = await client.request("", max_bytes=_MAX_PAGE_BYTES)
        except ApiError as error:
            raise ConnectError(f"the response isn't HTTP: {error.reason}") from error
        step.detail = f"answers (HTTP {response.status})"
        return response.headers.get("date", "")

    return http


def add_clock(steps: Steps, http: Step[str]) -> None:
    """Add the comparison of the API's clock with this machine's."""

    @steps.step("clock", http.subject, _CLOCK_HINT, needs=[http])
    async def _(step: Step[None]) -> None:
        theirs = date_of(http.value)
        if theirs is None:
            step.warn("dryAPI's response has no time to compare with")
            return
        seconds = (datetime.now(UTC) - theirs).total_seconds()
        if abs(seconds) <= _MAX_SKEW_SECONDS:
            step.detail = f"within {_MAX_SKEW_SECONDS:g} s of dryAPI's"
            return
        way = "ahead of" if seconds > 0 else "behind"
        detail = f"this machine's clock is {abs(seconds):.0f} s {way} dryAPI's"
        if abs(seconds) > _MAX_WEBHOOK_SECONDS:
            limit = f"{_MAX_WEBHOOK_SECONDS:g} s"
            detail += f": signed webhooks would be refused, as those may be {limit} old"
        step.warn(detail)


def add_status(
    steps: Steps, settings: Settings, tls: _Tls, needs: Sequence[Step[Any]]
) -> None:
    """Add a call of the status endpoint for each token."""
    if not settings.reconciliation.enabled:
        return
    limiter = trio.CapacityLimiter(_MAX_ACCOUNTS)
    first_of_each: dict[str, Account] = {}
    for account in settings.all_accounts:
        first_of_each.setdefault(account.api_token.reveal(), account)
    for account in first_of_each.values():

        @steps.step(
            "status",
            account.client_id,
            _API_HINT,
            needs=needs,
            limiter=limiter,
            # Events come without it.
            spared="missed job ends would not be looked up",
        )
        async def _(step: Step[None], account: Account = account) -> None:
            client = ApiClient(
                settings.api_url,
                account.api_token,
                timeout_seconds=math.inf,
                tls=lambda: tls.value,
            )
            # A job that doesn't exist: one call of a minute and of a day.
            answer = await ask(client, str(uuid.uuid4()))
            _describe(answer, step)


def _describe(answer: Answer, step: Step[None]) -> None:
    status, left = f"HTTP {answer.status}", _left(answer.limits)
    if answer.outcome is Outcome.NOT_FOUND:
        step.detail = f"answers ({status}){left}"
        return
    message, hint = answer.reason, ""
    if answer.outcome is Outcome.ANSWERED:
        message = f"answers with {status} about a job that doesn't exist"
    elif answer.outcome is Outcome.LIMITED:
        span = "day" if answer.limits.limited_by == "daily" else "minute"
        message = f"the calls of this {span} are used up{left}"
        hint = (
            "It passes by itself; if it happens again, see which programs use this"
            " account's token"
        )
    elif answer.outcome is Outcome.REFUSED:
        hint = "Check BRIDGE_API_TOKEN, or the account's api_token_file in [[accounts]]"
    elif answer.status is not None and answer.status >= 500:
        hint = _PASSING_HINT
    raise BridgeError(message, hint=hint)


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
