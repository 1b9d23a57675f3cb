"""
Connects reconciliation for all accounts: dryAPI's status endpoint, and its webhooks.

Each account has an intake for both, so the same rules apply to events of any origin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Final, NoReturn

import msgspec
import trio
from starlette.types import ASGIApp

from bridge.accounts import sources_of
from bridge.events.intake import Intake
from bridge.events.record import Origin, Record
from bridge.gaps.holding import Holding
from bridge.gaps.ledger import ClosedGap, Ledger
from bridge.gaps.limiter import Limiter
from bridge.gaps.receiver import Receiver, Recipient, WebhookStatistics
from bridge.gaps.reconciler import Account, Reconciler, ReconciliationStatistics
from bridge.gaps.status import ask
from bridge.http.client import ApiClient
from bridge.http.server import Limits, serve
from bridge.http.tls import ReloadingContext, server_tls
from bridge.metric import counter
from bridge.outbox import Outbox
from bridge.outbox.values import RETENTION, Spent
from bridge.settings import Settings


__all__ = ["FinishedJobs", "HealingTasks"]

# A connection and one response.
_CALL_SECONDS: Final = 10.0

# dryAPI's have some hundred bytes and an error's text; a thousand such at once are
# 128 MiB. So many connections need some 30 MB of memory; dryAPI's senders are few.
_MAX_BODY_BYTES: Final = 128 * 1024
_MAX_CONNECTIONS: Final = 1000

# dryAPI waits for ten seconds. Most bodies have some hundred bytes and arrive with the
# head; the rest of the time is for the disk.
_PHASE_SECONDS: Final = 5.0


class FinishedJobs(msgspec.Struct, frozen=True):
    """How many jobs of an account's `ce_source` have ended; accounts by client id."""

    count: Callable[[str], int]
    sources: Mapping[str, str]

    @property
    def finished(
        self,
    ) -> Annotated[
        dict[str, int],
        counter(
            "bridge_jobs_finished",
            "Jobs that have ended, from whatever source the bridge learned it.",
            "client_id",
        ),
    ]:
        """The number by client id."""
        return {who: self.count(source) for who, source in self.sources.items()}


class HealingTasks:
    """
    Reconciliation and webhooks of all accounts.

    Args:
        settings: All settings.
        tls: The context of connections to dryAPI.
        outbox: Where records go; remembers what was asked on this day.
        ledger: The gaps.

    Attributes:
        intakes: What became of what they brought.
        limiters: What may still be asked, by client id; none where asking is off.
        statistics: Further counts, for metrics.

    Raises:
        ConfigError: A setting that only its use shows to be wrong.
    """

    def __init__(
        self, settings: Settings, tls: ReloadingContext, outbox: Outbox, ledger: Ledger
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._ledger = ledger
        self._sources = sources_of(settings)
        self._tls = tls
        self.intakes: list[Intake] = []
        self.limiters: dict[str, Limiter] = {}
        self._statistics = ReconciliationStatistics(self._sources)
        self._reconcilers: dict[str, Reconciler] = {}
        self._add_reconcilers()
        self._holding = Holding(
            outbox,
            ledger,
            {source: client_id for client_id, source in self._sources.items()},
            grace_period_seconds=settings.webhook.grace_period_seconds,
        )
        self._receiver = None if settings.webhook.listen is None else self._receive()
        finished = FinishedJobs(outbox.jobs.finished, self._sources)
        self.statistics = (self._statistics, finished)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """
        Reconcile and take webhooks until cancelled; start it with `nursery.start`.

        Args:
            task_status: Is called once webhooks can come.

        Raises:
            ListenError: The webhooks' port can't be opened.
            ConfigError: The files of its certificate can't be used.
        """
        async with trio.open_nursery() as nursery:
            self._ledger.on_closed = self._gap_closed
            for reconciler in set(self._reconcilers.values()):
                nursery.start_soon(reconciler.run)
            # Also where webhooks are off by now: those that were taken are on disk.
            nursery.start_soon(self._holding.run)
            listen = self._settings.webhook.listen
            if listen is not None and self._receiver is not None:
                await self._serve_webhooks(nursery, listen, self._receiver.app)
            task_status.started()
            # No deadline: it lasts as long as the sessions do.
            await trio.sleep_forever()
        raise AssertionError("only a cancellation ends it")

    @property
    def webhooks(self) -> WebhookStatistics | None:
        """What was received; None where webhooks are off."""
        return None if self._receiver is None else self._receiver.statistics

    def _gap_closed(self, closed: ClosedGap) -> None:
        self._reconcilers[closed.gap.client_id].gap_closed(closed)

    # -- The status endpoint ----------------------------------------------------

    def _add_reconcilers(self) -> None:
        """Make one for each token: its accounts share its calls."""
        is_asking = self._settings.reconciliation.enabled
        by_token: dict[str, list[str]] = {}
        tokens = {}
        for account in self._settings.all_accounts:
            token = account.api_token.reveal() if is_asking else ""
            by_token.setdefault(token, []).append(account.client_id)
            tokens[account.client_id] = account.api_token
        for client_ids in by_token.values():
            limiter = client = None
            if is_asking:
                limiter = self._limiter([self._sources[one] for one in client_ids])
                client = ApiClient(
                    self._settings.api_url,
                    tokens[client_ids[0]],
                    timeout_seconds=_CALL_SECONDS,
                    tls=self._tls.current,
                )
                self.limiters |= dict.fromkeys(client_ids, limiter)
            accounts = [
                Account(
                    client_id,
                    self._sources[client_id],
                    self._maker(client_id, Origin.STATUS_ENDPOINT),
                )
                for client_id in client_ids
            ]
            reconciler = Reconciler(
                accounts,
                self._settings.reconciliation,
                ledger=self._ledger,
                outbox=self._outbox,
                statistics=self._statistics,
                limiter=limiter,
                ask=None if client is None else partial(ask, client),
                max_event_bytes=self._settings.limits.event_bytes,
                keep_jobs_seconds=RETENTION.unfinished_seconds,
            )
            self._reconcilers |= dict.fromkeys(client_ids, reconciler)

    def _limiter(self, sources: Sequence[str]) -> Limiter:
        """Make the limiter of accounts that share a token, with what it remembers."""
        spent = self._outbox.memory.spent
        known = [spent[source] for source in sources if source in spent]
        # All of a token have the same, unless one had another token before: then a day
        # that is over must not hide another.
        most = None
        if known:
            since_us = max(one.since_us for one in known)
            most = Spent(since_us, max(one.calls for one in known))
        return Limiter(
            # Metrics are written in another thread.
            trio.lowlevel.current_clock().current_time,
            reserve_percent=self._settings.reconciliation.reserve_percent,
            now_us=lambda: time.time_ns() // 1000,
            spent=most,
            on_spent=lambda now: self._outbox.spend(dict.fromkeys(sources, now)),
        )

    # -- Webhooks ---------------------------------------------------------------

    def _receive(self) -> Receiver:
        """Make what receives the webhooks of the accounts that have a secret."""
        settings = self._settings
        recipients = [
            Recipient(
                account.client_id,
                account.webhook_secret,
                self._maker(account.client_id, Origin.WEBHOOK),
            )
            for account in settings.all_accounts
            if account.webhook_secret is not None
        ]
        return Receiver(
            recipients,
            self._holding,
            max_body_bytes=_MAX_BODY_BYTES,
            is_single=not settings.accounts,
        )

    async def _serve_webhooks(
        self, nursery: trio.Nursery, listen: str, app: ASGIApp
    ) -> None:
        settings = self._settings.webhook
        tls = None
        if settings.tls_cert_file is not None and settings.tls_key_file is not None:
            tls = server_tls(settings.tls_cert_file, settings.tls_key_file)
        await nursery.start(
            partial(
                serve,
                app,
                listen,
                setting="webhook.listen",
                tls=tls,
                limits=Limits(
                    max_connections=_MAX_CONNECTIONS, phase_seconds=_PHASE_SECONDS
                ),
            )
        )

    def _maker(self, client_id: str, origin: Origin) -> Callable[[bytes, int], Record]:
        """Return what makes one account's records, or dead letters, of one origin."""
        settings = self._settings
        intake = Intake(
            ce_source=self._sources[client_id],
            topic=settings.topic,
            dead_letter_topic=settings.dead_letter_topic,
            max_value_bytes=settings.limits.event_bytes,
            max_dead_letter_bytes=settings.limits.event_bytes,
            origin=origin,
        )
        self.intakes.append(intake)
        return intake.record
