"""The service's wiring of what heals gaps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.accounts import sources_of
from bridge.gaps.ledger import Ledger
from bridge.gaps.limiter import Limits, Purpose
from bridge.healing import HealingTasks
from bridge.http.tls import client_tls
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Spent
from bridge.settings import (
    Account,
    OutboxSettings,
    ReconciliationSettings,
    Secret,
    Settings,
    WebhookSettings,
)


SOURCE = "https://api.dryapi.dev/clients/"


def settings_of(folder: Path, **more: Any) -> Settings:
    """Give settings with two accounts that share a token, and one that doesn't."""
    accounts = tuple(
        Account(who, Secret(token), secret)
        for who, token, secret in (
            ("42", "shared", Secret("whsec_1")),
            ("43", "shared", None),
            ("44", "own", Secret("whsec_2")),
        )
    )
    return replace(
        Settings(accounts=accounts, outbox=OutboxSettings(dir=folder)), **more
    )


@contextmanager
def started(settings: Settings) -> Iterator[tuple[HealingTasks, Outbox]]:
    """Give the wiring of a process, with its outbox."""
    with OutboxDirectory(settings.outbox.dir) as directory:
        outbox = Outbox(directory, settings.outbox)
        ledger = Ledger("gaps", sources_of(settings), outbox.keep)
        yield HealingTasks(settings, client_tls(None), outbox, ledger), outbox
        outbox.close()


async def test_accounts_that_share_a_token_share_its_calls(tmp_path: Path) -> None:
    """What one of them has used of this day is known of both after a restart."""
    settings = settings_of(tmp_path)
    with started(settings) as (tasks, _):
        limiters = tasks.limiters
        assert limiters["42"] is limiters["43"]
        assert limiters["42"] is not limiters["44"]
        limiters["42"].begin(Purpose.GAP)
        limiters["42"].end(Limits())
    with started(settings) as (tasks, outbox):
        calls = {who: spent.calls for who, spent in outbox.memory.spent.items()}
        assert calls == {SOURCE + "42": 1, SOURCE + "43": 1}
        left = {who: one.remaining["day"] for who, one in tasks.limiters.items()}
        assert left == {"42": 149, "43": 149, "44": 150}


async def test_no_account_hides_what_its_token_has_used(tmp_path: Path) -> None:
    """One that had another token before brings a day that was over long ago."""
    settings = settings_of(tmp_path)
    now_us = time.time_ns() // 1000
    with started(settings) as (_, outbox):
        outbox.spend({SOURCE + "42": Spent(now_us - 3_600_000_000, 100)})
        outbox.spend({SOURCE + "43": Spent(now_us - 90_000_000_000, 120)})
    with started(settings) as (tasks, _):
        left = [tasks.limiters[who].remaining["day"] for who in ("42", "44")]
        assert left == [30, 150]


async def test_what_is_off_counts_nothing(tmp_path: Path) -> None:
    """No limits where nothing is asked, no webhooks where none are received."""
    off = settings_of(tmp_path, reconciliation=ReconciliationSettings(enabled=False))
    with started(off) as (tasks, _):
        assert (tasks.limiters, tasks.webhooks) == ({}, None)
    on = settings_of(tmp_path, webhook=WebhookSettings(listen="127.0.0.1:0"))
    with started(on) as (tasks, _):
        webhooks = tasks.webhooks
        assert webhooks is not None
        # The second account has no secret, so that it receives none.
        assert set(webhooks.last_terminal_at_us) == {"42", "44"}
        # One of each account for the status endpoint's answers, and of those two.
        assert len(tasks.intakes) == 5
