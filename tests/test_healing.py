"""The service's wiring of what heals gaps."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
from bridge.reconciliation.budget import Budget, Purpose

from bridge.accounts import sources_of
from bridge.gaps.ledger import Ledger
from bridge.healing import HealingTasks
from bridge.http.tls import client_tls
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Spent
from bridge.settings import (
    AccountSettings,
    OutboxSettings,
    ReconciliationSettings,
    Secret,
    Settings,
    WebhookSettings,
)


TLS = client_tls(None)


def settings_of(folder: Path, **more: object) -> Settings:
    """Give settings with two accounts that share a token, and one that doesn't."""
    accounts = tuple(
        AccountSettings(client_id=who, api_token=Secret(token), webhook_secret=secret)
        for who, token, secret in (
            ("42", "shared", Secret("whsec_1")),
            ("43", "shared", None),
            ("44", "own", Secret("whsec_2")),
        )
    )
    return msgspec.structs.replace(
        Settings(accounts=accounts, outbox=OutboxSettings(dir=folder)), **more
    )


async def test_accounts_that_share_a_token_share_its_calls(tmp_path: Path) -> None:
    """And what one of them has spent on this day is known of both after a restart."""
    settings = settings_of(tmp_path)
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings.outbox)
        tasks = HealingTasks(settings, TLS, outbox, Ledger("g", sources_of(settings)))
        budgets = tasks.sources().budgets
        assert budgets["42"] is budgets["43"]
        assert budgets["42"] is not budgets["44"]
        assert isinstance(budgets["42"], Budget)
        assert await budgets["42"].acquire(Purpose.GAP)
        outbox.close()
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings.outbox)
        assert {who: spent.calls for who, spent in outbox.memory.spent.items()} == {
            "https://api.dryapi.dev/clients/42": 1,
            "https://api.dryapi.dev/clients/43": 1,
        }
        tasks = HealingTasks(settings, TLS, outbox, Ledger("g", sources_of(settings)))
        remaining = {
            who: budget.remaining_day for who, budget in tasks.sources().budgets.items()
        }
        assert remaining == {"42": 149, "43": 149, "44": 150}
        outbox.close()


async def test_what_a_token_has_spent_is_hidden_by_no_account(tmp_path: Path) -> None:
    """One that had another token before brings a day that was over long ago."""
    settings = settings_of(tmp_path)
    now_us = time.time_ns() // 1000
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings.outbox)
        sources = sources_of(settings)
        outbox.spend({sources["42"]: Spent(now_us - 3_600_000_000, 100)})
        outbox.spend({sources["43"]: Spent(now_us - 90_000_000_000, 120)})
        outbox.close()
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings.outbox)
        tasks = HealingTasks(settings, TLS, outbox, Ledger("g", sources_of(settings)))
        budgets = tasks.sources().budgets
        assert [budgets[who].remaining_day for who in ("42", "44")] == [30, 150]
        outbox.close()


async def test_what_is_off_counts_nothing(tmp_path: Path) -> None:
    """No budget where nothing is asked, no webhooks where none are taken."""
    off = settings_of(tmp_path, reconciliation=ReconciliationSettings(enabled=False))
    on = settings_of(tmp_path, webhook=WebhookSettings(listen="127.0.0.1:0"))
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, off.outbox)
        tasks = HealingTasks(off, TLS, outbox, Ledger("g", sources_of(off)))
        assert (tasks.sources().budgets, tasks.sources().webhooks) == ({}, None)
        assert tasks.intakes == []
        tasks = HealingTasks(on, TLS, outbox, Ledger("g", sources_of(on)))
        taken = tasks.sources().webhooks
        assert taken is not None
        # The second account has no secret: nothing is taken of it.
        assert set(taken.last_terminal_at_us) == {"42", "44"}
        origins = [intake.statistics.origin for intake in tasks.intakes]
        assert origins == ["status-endpoint"] * 3 + ["webhook"] * 2
        outbox.close()
