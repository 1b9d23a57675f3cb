"""
What heals gaps, wired: dryAPI's status endpoint, and its webhooks.

The rooms `reconciliation` and `webhooks` meet the others here. Each account has an
intake for what either brings, so that one judge says what conforms, whoever brings it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, NoReturn

import trio

from bridge.accounts import sources_of
from bridge.events.intake import Intake
from bridge.events.record import Origin, Record
from bridge.http.server import Limits, serve
from bridge.http.tls import ReloadingContext, server_tls
from bridge.operations.healing_sources import HealingSources
from bridge.outbox import Outbox
from bridge.outbox.values import Spent
from bridge.reconciliation.budget import Budget
from bridge.reconciliation.client import StatusClient
from bridge.reconciliation.ports import AskedAccount, Rooms
from bridge.reconciliation.reconciler import Reconciler
from bridge.recovery.ledger import Ledger
from bridge.settings import Account, Settings
from bridge.webhooks.holding import Holding
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import WebhookStatistics
from bridge.webhooks.steady import steady_clock


__all__ = ["HealingTasks"]

_NS_PER_US: Final = 1000


class HealingTasks:
    """
    Reconciliation and webhooks of all accounts.

    Args:
        settings: All settings.
        tls: The context of connections to dryAPI.
        outbox: Where records go; remembers what was asked on this day.
        ledger: Where gaps stand.

    Attributes:
        intakes: What became of what they brought.

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
        self._clients: list[StatusClient] = []
        self.intakes: list[Intake] = []
        self._budgets: dict[str, Budget] = {}
        asked = self._asked() if settings.reconciliation.enabled else []
        self._reconciler = Reconciler(
            settings.reconciliation,
            self._sources,
            asked,
            Rooms(outbox.jobs, outbox, ledger),
            max_event_bytes=settings.limits.event_bytes,
            keep_jobs_seconds=settings.outbox.keep_jobs_seconds,
        )
        self._recipients = self._signed_accounts()
        self._webhooks = WebhookStatistics(one.client_id for one in self._recipients)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """
        Settle gaps and take webhooks until cancelled; start it with `nursery.start`.

        Args:
            task_status: Is told once webhooks can come.

        Raises:
            ListenError: The webhooks' port can't be opened.
            ConfigError: The files of its certificate can't be used.
        """
        async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
            for client in self._clients:
                await clients.enter_async_context(client)
            self._ledger.follow(self._reconciler.gap_closed)
            nursery.start_soon(self._reconciler.run)
            # Also where webhooks are off by now: those that were taken are on disk.
            await self._take_webhooks(nursery)
            task_status.started()
            # No deadline: it lasts as long as the sessions do.
            await trio.sleep_forever()
        raise AssertionError("nothing but a cancellation ends it")

    @property
    def events_told(self) -> int:
        """What dryAPI told beside the socket since the start, of use or not."""
        counts = [intake.statistics for intake in self.intakes]
        return sum(one.accepted + sum(one.dead_letters.values()) for one in counts)

    def sources(self) -> HealingSources:
        """Give what metrics and health read."""
        jobs, sources = self._outbox.jobs, self._sources
        is_taking = self._settings.webhook.listen is not None
        return HealingSources(
            self._reconciler.statistics,
            self._budgets,
            self._webhooks if is_taking else None,
            lambda client_id: jobs.finished(sources[client_id]),
            tuple(sources),
        )

    # -- The status endpoint ----------------------------------------------------

    def _asked(self) -> list[AskedAccount]:
        """Give all accounts as reconciliation takes them; one token is one budget."""
        by_token: dict[str, list[Account]] = {}
        for account in self._settings.all_accounts:
            by_token.setdefault(account.api_token.reveal(), []).append(account)
        asked = []
        for accounts in by_token.values():
            client = StatusClient(
                self._settings.api_url,
                accounts[0].api_token,
                timeout_seconds=self._settings.reconciliation.request_timeout_seconds,
                tls=self._tls.current,
            )
            self._clients.append(client)
            budget = self._budget([self._sources[one.client_id] for one in accounts])
            for account in accounts:
                client_id = account.client_id
                self._budgets[client_id] = budget
                ce_source = self._sources[client_id]
                make = self._maker(client_id, Origin.STATUS_ENDPOINT)
                asked.append(AskedAccount(client_id, ce_source, make, budget, client))
        return asked

    def _budget(self, sources: Sequence[str]) -> Budget:
        """Make the budget of accounts that share a token, and what it remembers."""
        spent = self._outbox.memory.spent
        known = [spent[source] for source in sources if source in spent]

        def remember(now: Spent) -> None:
            self._outbox.spend(dict.fromkeys(sources, now))

        return Budget(
            reserve_percent=self._settings.reconciliation.reserve_percent,
            now_us=_now_us,
            spent=_together(known),
            on_spent=remember,
        )

    # -- Webhooks ---------------------------------------------------------------

    def _signed_accounts(self) -> list[Recipient]:
        if self._settings.webhook.listen is None:
            return []
        return [
            Recipient(
                account.client_id,
                account.webhook_secret,
                self._maker(account.client_id, Origin.WEBHOOK),
            )
            for account in self._settings.all_accounts
            if account.webhook_secret is not None
        ]

    async def _take_webhooks(self, nursery: trio.Nursery) -> None:
        settings = self._settings.webhook
        steady_us = steady_clock()
        holding = Holding(
            self._outbox,
            find=self._outbox.jobs.find,
            healable=self._ledger.healable,
            on_written=self._written,
            client_ids={source: who for who, source in self._sources.items()},
            hold_seconds=settings.hold_seconds,
            steady_us=steady_us,
            statistics=self._webhooks,
        )
        nursery.start_soon(holding.run)
        if settings.listen is None:
            return
        receiver = Receiver(
            self._recipients,
            take=self._outbox.take,
            expect=holding.expect,
            statistics=self._webhooks,
            settings=settings,
            steady_us=steady_us,
            is_single=not self._settings.accounts,
        )
        await nursery.start(
            partial(
                serve,
                receiver.app,
                settings.listen,
                setting="webhook.listen",
                tls=_tls(self._settings),
                limits=Limits(max_connections=settings.max_connections),
            )
        )

    def _written(self, client_id: str, request_id: str, gap_ids: Sequence[str]) -> None:
        """Note that a job has ended by its webhook."""
        self._ledger.healed(gap_ids, Origin.WEBHOOK)
        self._reconciler.written(client_id, request_id)

    def _maker(self, client_id: str, origin: Origin) -> Callable[[bytes, int], Record]:
        """Give what makes one account's records, or dead letters, of one origin."""
        settings = self._settings
        intake = Intake(
            ce_source=self._sources[client_id],
            topic=settings.topic,
            dead_letter_topic=settings.dead_letter_topic,
            max_value_bytes=settings.limits.event_bytes,
            max_dead_letter_bytes=settings.limits.dead_letter_bytes,
            origin=origin,
        )
        self.intakes.append(intake)
        return intake.record


def _together(known: Sequence[Spent]) -> Spent | None:
    """
    Give what a token has spent at most, of what its accounts have.

    They have the same, unless one of them had another token before: then it isn't known
    whose calls and whose day these are, and a day that is over must not hide another.
    """
    if not known:
        return None
    return Spent(max(one.since_us for one in known), max(one.calls for one in known))


def _tls(settings: Settings) -> ReloadingContext | None:
    webhook = settings.webhook
    if webhook.tls_cert_file is None or webhook.tls_key_file is None:
        return None
    return server_tls(webhook.tls_cert_file, webhook.tls_key_file)


def _now_us() -> int:
    return time.time_ns() // _NS_PER_US
