"""
The status endpoint: whether it answers each token, and how many calls it leaves.

It is asked about a job that nobody has. That costs one call of a minute and of a day,
once for each token.
"""

from __future__ import annotations

import ssl
import uuid
from typing import Final

from bridge.doctor.api import ENDPOINT
from bridge.doctor.branch import Branch, Found, side_by_side
from bridge.doctor.remedies import ProblemError, split
from bridge.gaps.limiter import Limits
from bridge.gaps.status import Answer, Outcome, StatusClient
from bridge.http.client import ApiClient
from bridge.settings import Account, Settings


__all__ = ["status_branches", "walk_status"]

_STEP: Final = "status"

_ANSWER_SECONDS: Final = 3.0

_SOFT: Final = "what the socket misses would not be asked about"


def status_branches(settings: Settings, end: float) -> list[Branch]:
    """Give a branch for each token, named after the first account that has it."""
    silence = {
        _STEP: ProblemError("the API takes the request and says nothing", ENDPOINT)
    }
    return [
        Branch(account.client_id, [_STEP], end, silence)
        for account in _first_of_each_token(settings)
    ]


async def walk_status(
    branches: list[Branch], settings: Settings, tls: ssl.SSLContext
) -> None:
    """Ask with each token."""

    async def ask(branch: Branch, account: Account) -> None:
        await _ask(branch, account, settings, tls)
        # Events come without it.
        branch.soften(_SOFT)

    await side_by_side(branches, _first_of_each_token(settings), ask)


def _first_of_each_token(settings: Settings) -> list[Account]:
    if not settings.reconciliation.enabled:
        return []
    found: dict[str, Account] = {}
    for account in settings.all_accounts:
        found.setdefault(account.api_token.reveal(), account)
    return list(found.values())


async def _ask(
    branch: Branch, account: Account, settings: Settings, tls: ssl.SSLContext
) -> None:
    with branch, branch.step(_STEP, _ANSWER_SECONDS) as found:
        client = ApiClient(
            settings.api_url,
            account.api_token,
            # The step's deadline comes first, and says more.
            timeout_seconds=10 * _ANSWER_SECONDS,
            tls=lambda: tls,
        )
        answer = await StatusClient(client).ask(str(uuid.uuid4()))
        _tell(answer, found)


def _tell(answer: Answer, found: Found) -> None:
    """Say what an answer means."""
    if answer.outcome is Outcome.NOT_FOUND:
        found.detail = f"answers (HTTP {answer.status}){_left(answer.limits)}"
    elif answer.outcome is Outcome.ANSWERED:
        raise ProblemError(
            f"answers with HTTP {answer.status} about a job that nobody has"
        )
    elif answer.outcome is Outcome.LIMITED:
        span = "day" if answer.limits.limited_by == "daily" else "minute"
        raise ProblemError(
            f"the calls of this {span} are used up{_left(answer.limits)}",
            "It passes by itself; if it comes again, see which programs ask with this"
            " account's token",
        )
    else:
        detail, remedy = split(answer.reason)
        if answer.status is not None and answer.status >= 500:
            remedy = "It may pass: the bridge asks again. If it stays, ask dryAPI"
        raise ProblemError(detail, remedy)


def _left(limits: Limits) -> str:
    """Say how many calls are left, as far as the answer says it."""
    parts = [
        f"{remaining} of {allowed} calls of this {span}"
        for remaining, allowed, span in (
            (limits.minute_remaining, limits.per_minute, "minute"),
            (limits.day_remaining, limits.per_day, "day"),
        )
        if remaining is not None and allowed is not None
    ]
    return f"; left are {' and '.join(parts)}" if parts else ""
