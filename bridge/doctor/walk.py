"""
The whole way: what is looked at after what, and what side by side.

Owns the order and the deadline of all. What a step does stands in its own module.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

import trio

from bridge.doctor.api import api_branches, walk_api
from bridge.doctor.branch import Branch
from bridge.doctor.kafka import Cluster
from bridge.doctor.outbox import outbox_branch, walk_outbox
from bridge.doctor.pusher import (
    account_branches,
    pusher_branch,
    walk_accounts,
    walk_pusher,
)
from bridge.doctor.registry import registry_branches, walk_registry
from bridge.doctor.remedies import ProblemError, split
from bridge.doctor.report import Line, Outcome, Report
from bridge.doctor.status import status_branches, walk_status
from bridge.doctor.webhooks import walk_webhooks, webhook_branches
from bridge.errors import ConfigError, ExitCode
from bridge.http.tls import client_context
from bridge.settings import Settings


__all__ = ["check", "refused_settings"]

# All of it takes less than 10 s: what is left is for Python's start, and for a server
# that doesn't answer a WebSocket's close.
_SECONDS: Final = 8.0

_STEP: Final = "settings"


def refused_settings(error: ConfigError) -> Report:
    """Tell of settings with which there is nothing to walk along."""
    lines = []
    for text in str(error).splitlines():
        detail, remedy = split(text)
        lines.append(
            Line(_STEP, "", Outcome.FAILURE, detail, remedy, ExitCode(error.exit_code))
        )
    return Report(tuple(lines), 0.0)


async def check(
    settings: Settings, warnings: Sequence[str] = (), seconds: float = _SECONDS
) -> Report:
    """
    Walk from the settings to the brokers; it changes nothing on its way.

    Args:
        settings: All settings, checked.
        warnings: What was odd about them.
        seconds: When it ends, whoever has not answered by then.
    """
    begun = trio.current_time()
    walk = _Walk(settings, warnings, begun + seconds)
    await walk.go()
    lines = [line for branch in walk.branches for line in branch.lines]
    return Report(tuple(lines), trio.current_time() - begun)


class _Walk:
    """All branches, and what one has to know of another."""

    def __init__(self, settings: Settings, warnings: Sequence[str], end: float) -> None:
        self._settings = settings
        self._warnings = warnings
        unreadable = ProblemError("", "Set it to a readable file of certificates (PEM)")
        self._own = Branch("", [_STEP], end, {_STEP: unreadable})
        self._pusher = pusher_branch(settings, end)
        self._api, self._clock = api_branches(settings, end)
        self._accounts = account_branches(settings, end)
        self._status = status_branches(settings, end)
        self._webhooks = webhook_branches(settings, end)
        self._cluster = Cluster(settings, end)
        self._registry = registry_branches(settings, end)
        self._outbox = outbox_branch(settings, end)
        self._api_seen = trio.Event()
        self._outbox_seen = trio.Event()
        self._outbox_id: str | None = None
        # Whom to trust at dryAPI, once that is known.
        self._tls: ssl.SSLContext

    @property
    def branches(self) -> list[Branch]:
        """All of them, in the order in which they are told."""
        return [
            self._own,
            self._pusher,
            self._api,
            *self._accounts,
            *self._status,
            *self._cluster.branches,
            *self._registry,
            self._outbox,
            *self._webhooks,
            self._clock,
        ]

    async def go(self) -> None:
        """Walk; what doesn't need one another goes side by side."""
        self._look_at_settings()
        async with trio.open_nursery() as nursery:
            if self._own.failed is None:
                nursery.start_soon(self._to_pusher)
                nursery.start_soon(self._to_api)
            else:
                for branch in (
                    *(self._pusher, self._api, self._clock),
                    *(*self._accounts, *self._status),
                ):
                    branch.failed = self._own.failed
            nursery.start_soon(self._to_outbox)
            nursery.start_soon(walk_webhooks, self._webhooks, self._settings)
            nursery.start_soon(self._cluster.walk, self._find_outbox_id)
            for branch in self._registry:
                nursery.start_soon(walk_registry, branch, self._settings)

    def _look_at_settings(self) -> None:
        """Take what was read, and see whom to trust at dryAPI."""
        with self._own as branch, branch.step(_STEP) as found:
            self._tls = client_context(self._settings.pusher.ca_file)
            for warning in self._warnings:
                found.warn(*split(warning))
            if not self._warnings:
                found.detail = "each can be used"

    async def _to_pusher(self) -> None:
        await walk_pusher(self._pusher, self._settings, self._tls)
        # No deadline: each step on that way has one.
        await self._api_seen.wait()
        failed = self._pusher.failed or self._api.failed
        if failed is None:
            await walk_accounts(self._accounts, self._settings, self._tls)
        for branch in self._accounts:
            branch.failed = branch.failed or failed

    async def _to_api(self) -> None:
        await walk_api(self._api, self._clock, self._settings, self._tls)
        self._api_seen.set()
        if self._api.failed is None:
            await walk_status(self._status, self._settings, self._tls)
        for branch in self._status:
            branch.failed = branch.failed or self._api.failed

    async def _to_outbox(self) -> None:
        self._outbox_id = await walk_outbox(self._outbox, self._settings)
        self._outbox_seen.set()

    async def _find_outbox_id(self) -> str | None:
        # No deadline, as above.
        await self._outbox_seen.wait()
        return self._outbox_id
