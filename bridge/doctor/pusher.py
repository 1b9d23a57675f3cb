"""
The connection to the Pusher server, and each account's subscription over it.

After name, TCP and TLS a connection is made as the service makes it, by the same
`Connection.run` with shorter deadlines: once up to the server's greeting, and once for
each account until it is subscribed. An event that comes meanwhile is dropped here; a
bridge that runs at the same time receives it too.
"""

from __future__ import annotations

import math
import ssl
from functools import partial
from typing import Final, NoReturn

import msgspec
import trio

from bridge.doctor.api import ENDPOINT
from bridge.doctor.branch import Branch, Found, side_by_side
from bridge.doctor.network import Place, branch_to, reached
from bridge.doctor.remedies import ProblemError, sentence, split
from bridge.errors import AuthorizationError, ExitCode
from bridge.http.client import ApiClient, Authorizer
from bridge.pusher.close_codes import Action, EndedError
from bridge.pusher.connection import Authorize, Channel, Connection, Note
from bridge.pusher.protocol import channel_of
from bridge.pusher.websocket import open_websocket
from bridge.settings import Account, Settings


__all__ = ["account_branches", "pusher_branch", "walk_accounts", "walk_pusher"]

_SETTING: Final = "pusher.url (BRIDGE_PUSHER_URL)"
_REMEDY: Final = (
    f"See that {_SETTING} names dryAPI's Pusher server, and that no proxy or load"
    " balancer between answers in its place"
)
_DEPLOYMENT: Final = (
    "See that pusher.url (BRIDGE_PUSHER_URL), pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
    " and api_url (BRIDGE_API_URL) belong to the same deployment"
)
_PASSING: Final = "It may pass: the bridge tries again. If it stays, ask dryAPI"

# From the first packet to the greeting, and for a signature. The session sends a
# subscription twice, and waits so long for each answer.
_GREETING_SECONDS: Final = 3.0
_SIGNATURE_SECONDS: Final = 3.0
_SUBSCRIPTION_SECONDS: Final = 1.5


def pusher_branch(settings: Settings, end: float) -> Branch:
    """Give the branch to the server."""
    return branch_to(_place(settings), "pusher", ["pusher.handshake"], end, _REMEDY)


def _place(settings: Settings) -> Place:
    return Place.of_url(settings.pusher.url, _SETTING)


def account_branches(settings: Settings, end: float) -> list[Branch]:
    """Give a branch for each account."""
    silence = {
        "authorization": ProblemError("it is not signed yet", ENDPOINT),
        "subscription": ProblemError("the server took the request", _DEPLOYMENT),
    }
    return [
        Branch(account.client_id, list(silence), end, silence)
        for account in settings.all_accounts
    ]


async def walk_pusher(branch: Branch, settings: Settings, tls: ssl.SSLContext) -> None:
    """Connect to the server, up to its greeting."""
    with branch:
        async with reached(branch, "pusher", _place(settings), lambda: tls):
            pass
        with branch.step("pusher.handshake", math.inf) as found:
            with trio.CancelScope() as scope:

                async def greeted(*_: str) -> NoReturn:
                    # A signature is for the socket id, which the greeting has.
                    scope.cancel()
                    await trio.sleep_forever()

                client_id = settings.all_accounts[0].client_id
                await _subscribe(client_id, settings, tls, greeted)
            found.detail = "the app key is known"


async def walk_accounts(
    branches: list[Branch], settings: Settings, tls: ssl.SSLContext
) -> None:
    """Subscribe each account's channel, once, each over its own connection."""
    walk = partial(_walk_account, settings=settings, tls=tls)
    await side_by_side(branches, settings.all_accounts, walk)


async def _walk_account(
    branch: Branch, account: Account, settings: Settings, tls: ssl.SSLContext
) -> None:
    client = ApiClient(
        settings.api_url,
        account.api_token,
        timeout_seconds=_SIGNATURE_SECONDS,
        tls=lambda: tls,
    )
    authorizer = Authorizer(client, app_key=settings.pusher.app_key)

    def note(kind: str, **_: object) -> None:
        if kind == "authorized":
            channel = channel_of(account.client_id)
            branch.passed("authorization", Found(f"dryAPI signs for {channel}"))

    with branch, branch.step("subscription", math.inf) as found:
        await _subscribe(account.client_id, settings, tls, authorizer.authorize, note)
        found.detail = "subscribed, and left again"


async def _subscribe(
    client_id: str,
    settings: Settings,
    tls: ssl.SSLContext,
    authorize: Authorize,
    note: Note | None = None,
) -> None:
    """Make a connection, and close it when it is subscribed."""
    pusher = settings.pusher
    channel = Channel(
        client_id,
        msgspec.structs.replace(
            pusher,
            timeout_seconds=min(pusher.timeout_seconds, _GREETING_SECONDS),
        ),
        authorize,
        partial(open_websocket, max_message_bytes=pusher.max_message_bytes, tls=tls),
    )
    try:
        with trio.CancelScope() as scope:
            await Connection(channel, note).run(task_status=_Stop(scope))
    except EndedError as ended:
        raise _problem(ended) from ended


class _Stop:
    """A task status that ends a connection as soon as it is subscribed."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope

    def started(self, _: None = None) -> None:
        self._scope.cancel()


def _problem(ended: EndedError) -> ProblemError:
    """Give what the end of a connection means at a start."""
    detail, remedy, code = str(ended), sentence(ended.hint), ended.code or 0
    may_pass = 4000 <= code < 4300
    if isinstance(ended.__cause__, AuthorizationError):
        detail, remedy = split(detail)
        may_pass = code >= 500
    elif code and str(code) not in detail:
        detail += f", {code}"
    if may_pass and not remedy:
        remedy = _PASSING
    is_final = ended.action is Action.TERMINAL
    exit_code = ExitCode.REFUSED_BY_DRYAPI if is_final else ExitCode.FAILED
    return ProblemError(detail, remedy, exit_code)
