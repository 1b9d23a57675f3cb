"""Accounts in one process, and dryAPI's refusals: at a start, of one, for good."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Account, Scene
from tests.kit.bridge_process import BridgeProcess
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.pusher_proxy import PusherProxy


# What was refused is tried again every half a minute at most, by the code.
_PACE_SECONDS = 30.0


class _Known:
    """Three accounts, and the bridge's files that name their tokens."""

    def __init__(self, folder: Path, accounts: Sequence[Account]) -> None:
        self.accounts = accounts
        self._folder = folder
        for account in accounts:
            self.tell(account, account.token)
        self.config = folder / "bridge.toml"
        self.config.write_text("\n".join(map(self._entry, accounts)))

    def _entry(self, account: Account) -> str:
        return (
            f"[[accounts]]\nclient_id = {json.dumps(account.client_id)}\n"
            f"api_token_file = {json.dumps(str(self.token_file(account)))}\n"
        )

    def token_file(self, account: Account) -> Path:
        """Give the file from which the bridge reads an account's token."""
        return self._folder / f"{account.client_id}.token"

    def tell(self, account: Account, token: str) -> None:
        """Write a token, right or wrong, into the bridge's file."""
        file = self.token_file(account)
        # As a rotation does it: never half a token.
        fresh = file.with_suffix(".new")
        fresh.write_text(token)
        fresh.rename(file)


@pytest.fixture
def known(scene: Scene, api: DryApi, tmp_path: Path) -> _Known:
    """Accounts that dryAPI and the bridge know."""
    accounts = scene.more_accounts(3)
    for account in accounts:
        api.admit(account.client_id, account.token)
    return _Known(tmp_path, accounts)


def _bridge(scene: Scene, api: DryApi, known: _Known, **settings: Any) -> BridgeProcess:
    """Describe a bridge of all accounts."""
    return scene.bridge(
        api.url,
        flags=["--config", str(known.config)],
        client_id=None,
        api_token=None,
        **settings,
    )


def _bridge_of_one(
    scene: Scene, api: DryApi, known: _Known, **settings: Any
) -> BridgeProcess:
    """Describe a bridge of only the first account."""
    account = known.accounts[0]
    return scene.bridge(
        api.url,
        client_id=account.client_id,
        api_token=None,
        api_token_file=known.token_file(account),
        **settings,
    )


async def _wait_subscribed(bridge: BridgeProcess, *accounts: Account) -> None:
    await bridge.wait_metrics(
        lambda now: all(
            now.total("bridge_subscribed", client_id=account.client_id)
            for account in accounts
        ),
        _PACE_SECONDS + 10,
    )


async def _run_jobs(scene: Scene, bridge: BridgeProcess, account: Account) -> None:
    """Have events of one account read and published."""
    async with scene.load(account=account) as load:
        before = (await bridge.metrics()).published
        await load.run_together([job(5) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.published == before + load.count)


async def test_each_account_has_events_and_gaps_of_its_own(
    scene: Scene, api: DryApi, known: _Known
) -> None:
    """Under its own source; a restart is one gap for each, with its jobs in flight."""
    accounts = known.accounts
    bridge = _bridge(scene, api, known)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *accounts)
    sources: dict[str, str] = {}
    begun: dict[str, int] = {}
    for count, account in enumerate(accounts):
        async with scene.load(account=account) as load:
            jobs = [job(5) for _ in range(6)]
            ended = [
                (request_id, texts[: -1 if number < count else None])
                for number, (request_id, texts) in enumerate(jobs)
            ]
            await load.run_together(ended)
        begun[account.client_id] = count
        source = f"{api.url}/clients/{account.client_id}"
        sources |= dict.fromkeys(load.accepted, source)
    count = 3 * 42 - sum(begun.values())
    metrics = await bridge.wait_metrics(lambda now: now.published == count)
    for client_id, unended in begun.items():
        name = "bridge_events_received_total"
        assert metrics.total(name, client_id=client_id) == 42 - unended
    await scene.stop(bridge)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *accounts)
    causes = ["first_start", "stopped"]
    ending = await scene.end(gaps={account.client_id: causes for account in accounts})
    for record in ending.jobs:
        key = (record.key or b"").decode()
        assert record.headers["ce_source"].decode() == sources[key]
    stopped = [gap for gap in ending.gaps if gap.cause == "stopped"]
    assert {gap.client_id: gap.jobs_in_flight for gap in stopped} == begun


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_refused_account_joins_once_its_token_is_right(
    scene: Scene, api: DryApi, known: _Known
) -> None:
    """Until then the others run, and the bridge is ready and says who is refused."""
    refused, *others = known.accounts
    known.tell(refused, f"{refused.token}-wrong")
    bridge = _bridge(scene, api, known)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *others)
    said = await bridge.wait_logged("session.refused")
    assert said["client_id"] == refused.client_id
    assert "HTTP 401" in said["reason"]
    await _run_jobs(scene, bridge, others[-1])
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.status == 200
    assert not ready.check(f"account:{refused.client_id}")["ok"]
    assert "HTTP 401" in ready.check(f"account:{refused.client_id}")["detail"]
    assert all(ready.check(f"account:{other.client_id}")["ok"] for other in others)
    assert (await bridge.metrics()).total("bridge_subscribed") == 2
    asked = [each for each in api.authorizations if each.channel == refused.channel]
    assert len(asked) == 1
    known.tell(refused, refused.token)
    await _wait_subscribed(bridge, *known.accounts)
    await _run_jobs(scene, bridge, refused)
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.check(f"account:{refused.client_id}")["ok"]
    await scene.end(gaps={each.client_id: ["first_start"] for each in known.accounts})


async def _wait_asked(api: DryApi, account: Account, count: int) -> None:
    """Wait until an account has asked for so many authorizations."""

    def asked() -> int:
        return [request.channel for request in api.authorizations].count(
            account.channel
        )

    with trio.fail_after(_PACE_SECONDS + 10):
        # A thread of dryAPI's counts.
        while asked() < count:  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_token_that_is_revoked_and_replaced_costs_one_gap(
    scene: Scene,
    api: DryApi,
    known: _Known,
    pusher_proxy: PusherProxy,
) -> None:
    """It is read again for each try, so the bridge goes on by itself."""
    account = known.accounts[0]
    bridge = _bridge_of_one(scene, api, known, pusher_url=pusher_proxy.url)
    await bridge.start_and_wait()
    api.revoke(account.token)
    pusher_proxy.cut()
    await _wait_asked(api, account, 2)
    refused = time.time()
    fresh = f"{account.token}-fresh"
    api.admit(account.client_id, fresh)
    known.tell(account, fresh)
    await _wait_subscribed(bridge, account)
    await _run_jobs(scene, bridge, account)
    ending = await scene.end(gaps={account.client_id: ["first_start", "disconnected"]})
    assert ending.gaps[-1].contains(refused, refused)
    assert bridge.logged("session.refused") == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_refusal_that_lasts_is_the_end_once_no_account_lives(
    scene: Scene,
    api: DryApi,
    known: _Known,
    pusher_proxy: PusherProxy,
    own_kafka: KafkaServer,
) -> None:
    """Long past its time another's events flow; at the end all rows are in Kafka."""
    other, *refused = known.accounts
    bridge = _bridge(
        scene,
        api,
        known,
        pusher_url=pusher_proxy.url,
        pusher_refused_timeout_seconds=1,
    )
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *known.accounts)
    for account in refused:
        api.revoke(account.token)
    pusher_proxy.cut()
    for account in refused:
        await _wait_asked(api, account, 3)
    await _wait_subscribed(bridge, other)
    await _run_jobs(scene, bridge, other)
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.status == 200
    for account in refused:
        assert not ready.check(f"account:{account.client_id}")["ok"]
    assert ready.check(f"account:{other.client_id}")["ok"]

    async with scene.load(account=other) as load:
        own_kafka.pause()
        before = (await bridge.metrics()).committed
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed >= before + load.count)
    api.revoke(other.token)
    pusher_proxy.cut()
    await bridge.wait_logged("service.stopping", 2 * _PACE_SECONDS + 10)
    assert bridge.running
    own_kafka.resume()
    sentence = await bridge.wait_refusal(3)
    assert "HTTP 401" in sentence
    assert "BRIDGE_API_TOKEN" in sentence
    for account in known.accounts:
        assert account.client_id in sentence
    # How often each connected again before the end is a matter of luck.
    await scene.end(gaps=None, open_gaps=3)
