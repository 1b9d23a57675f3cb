"""
Each account's way: a signature for its channel, and the subscription.

All share one connection: a signature is for its socket id, and a server that counts
connections counts one. Nothing of an account is kept.
"""

from __future__ import annotations

import ssl
from typing import Final

import trio

from bridge.doctor.branch import Branch
from bridge.doctor.conversation import Conversation
from bridge.doctor.pusher import problem_of_ending
from bridge.doctor.remedies import ProblemError, problem_of
from bridge.errors import AuthorizationError, ExitCode
from bridge.pusher import outgoing
from bridge.pusher.authorizer import Authorizer
from bridge.pusher.ending import Ending
from bridge.pusher.enrolment import refused
from bridge.pusher.protocol import Established, SubscriptionSucceeded
from bridge.settings import Account, Settings


__all__ = ["account_branches", "walk_accounts"]

# So many ask at once: a bridge with hundreds of accounts does the same.
_AT_ONCE: Final = 16

_ANSWER_SECONDS: Final = 3.0

_ENDPOINT: Final = (
    "See that api_url (BRIDGE_API_URL) is the base of dryAPI's API, without a path of a"
    " web page, and that no proxy or login page answers in its place"
)
_DEPLOYMENT: Final = (
    "See that pusher.url (BRIDGE_PUSHER_URL), pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
    " and api_url (BRIDGE_API_URL) belong to the same deployment"
)


def account_branches(settings: Settings, end: float) -> list[Branch]:
    """Give a branch for each account."""
    silence = {
        "authorization": ProblemError(
            "the API takes the request and says nothing", _ENDPOINT
        ),
        "subscription": ProblemError("the server took the request", _DEPLOYMENT),
    }
    return [
        Branch(account.client_id, ["authorization", "subscription"], end, silence)
        for account in settings.all_accounts
    ]


async def walk_accounts(
    branches: list[Branch],
    settings: Settings,
    tls: ssl.SSLContext,
    conversation: Conversation,
    greeting: Established,
) -> None:
    """
    Subscribe each account's channel, once.

    Args:
        branches: Where each account's steps are noted.
        settings: All settings.
        tls: Whom to trust.
        conversation: The connection that they share.
        greeting: What the server said of it.
    """
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def enrol(branch: Branch, account: Account) -> None:
        async with limit:
            await _enrol(branch, account, settings, tls, conversation, greeting)

    async with trio.open_nursery() as listening:
        listening.start_soon(conversation.listen)
        async with trio.open_nursery() as nursery:
            for branch, account in zip(branches, settings.all_accounts, strict=True):
                nursery.start_soon(enrol, branch, account)
        listening.cancel_scope.cancel()


async def _enrol(  # noqa: PLR0913, PLR0917 - what one account's way needs
    branch: Branch,
    account: Account,
    settings: Settings,
    tls: ssl.SSLContext,
    conversation: Conversation,
    greeting: Established,
) -> None:
    channel = f"private-client.{account.client_id}"
    with branch:
        with branch.step("authorization", _ANSWER_SECONDS) as found:
            authorizer = Authorizer(
                settings.api_url,
                account.api_token,
                app_key=settings.pusher.app_key,
                # The step's deadline comes first, and says more.
                timeout_seconds=10 * _ANSWER_SECONDS,
                tls=lambda: tls,
            )
            try:
                auth = await authorizer.authorize(
                    greeting.socket_id, outgoing.check_channel(channel)
                )
            except AuthorizationError as error:
                raise _unauthorized(error) from error
            found.detail = f"dryAPI signs for {channel}"
        with branch.step("subscription", _ANSWER_SECONDS) as found:
            answer = await conversation.subscribe(channel, auth)
            if isinstance(answer, Ending):
                raise problem_of_ending(answer)
            if not isinstance(answer, SubscriptionSucceeded):
                raise problem_of_ending(refused(answer))
            found.detail = "subscribed, and left again"


def _unauthorized(error: AuthorizationError) -> ProblemError:
    problem = problem_of(error)
    code = ExitCode.REFUSED_BY_DRYAPI if error.terminal else ExitCode.FAILED
    return ProblemError(problem.detail, problem.remedy or _remedy(error), code)


def _remedy(error: AuthorizationError) -> str:
    if error.status is not None and error.status >= 500:
        return "It may pass: the bridge asks again. If it stays, ask dryAPI"
    return _ENDPOINT
