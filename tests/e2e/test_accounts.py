"""Many accounts in one process: each has its own session, events, gaps and fate."""

from __future__ import annotations

import pytest

from tests.e2e.auth_endpoint import AuthEndpoint
from tests.e2e.gap_records import gaps_of
from tests.e2e.jobs import job
from tests.e2e.membership import Membership
from tests.e2e.scene import Account, Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.bridge_process import BridgeProcess


# What was refused is tried again every half a minute at most, by the code.
_PACE_SECONDS = 30.0


def _bridge(scene: Scene, auth: AuthEndpoint, membership: Membership) -> BridgeProcess:
    return scene.bridge(
        auth.url,
        flags=["--config", str(membership.config)],
        client_id=None,
        api_token=None,
    )


async def _wait_subscribed(bridge: BridgeProcess, *accounts: Account) -> None:
    await bridge.wait_metrics(
        lambda now: all(
            now.total("bridge_subscribed", client_id=account.client_id)
            for account in accounts
        )
    )


async def test_each_accounts_events_arrive_under_its_own_source(
    scene: Scene, auth: AuthEndpoint, membership: Membership
) -> None:
    """Once and in order, from one process, which counts them by account."""
    bridge = _bridge(scene, auth, membership)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *membership.accounts)
    accepted: dict[str, list[bytes]] = {}
    sources: dict[str, str] = {}
    for account in membership.accounts:
        async with scene.load(account=account) as load:
            await load.run_together([job(5) for _ in range(10)])
        accepted |= load.accepted
        source = f"{auth.url}/clients/{account.client_id}"
        sources |= dict.fromkeys(load.accepted, source)
    count = sum(map(len, accepted.values()))
    metrics = await bridge.wait_metrics(lambda now: now.published == count)
    assert await bridge.stop() == 0
    records = await scene.records(count)
    check_exactly(records, accepted)
    for record in records:
        assert record.key is not None
        assert record.headers["ce_source"].decode() == sources[record.key.decode()]
    for account in membership.accounts:
        name, each = "bridge_events_received_total", count / len(membership.accounts)
        assert metrics.total(name, client_id=account.client_id) == each


async def test_each_account_has_gaps_of_its_own(
    scene: Scene, auth: AuthEndpoint, membership: Membership
) -> None:
    """A restart is one gap for each, with the jobs of that account alone."""
    bridge = _bridge(scene, auth, membership)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *membership.accounts)
    begun: dict[str, int] = {}
    for count, account in enumerate(membership.accounts):
        async with scene.load(account=account) as load:
            jobs = [job(1) for _ in range(3)]
            begun[account.client_id] = count
            await load.run_together(
                [
                    (request_id, texts[:-1] if number < count else texts)
                    for number, (request_id, texts) in enumerate(jobs)
                ]
            )
    await bridge.wait_metrics(lambda now: now.committed >= now.read == 24)
    assert await bridge.stop() == 0
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *membership.accounts)
    assert await bridge.stop() == 0

    gaps = gaps_of(await scene.gaps(12))
    first, second = gaps[:3], gaps[3:]
    assert {(gap.client_id, gap.cause) for gap in first} == {
        (client_id, "first_start") for client_id in begun
    }
    assert {gap.cause for gap in second} == {"stopped"}
    assert {gap.client_id: gap.jobs_in_flight for gap in second} == begun


async def test_a_refused_account_leaves_the_others_running(
    scene: Scene, auth: AuthEndpoint, membership: Membership
) -> None:
    """The bridge is ready, says who is refused and why, and tries it slowly."""
    refused, *others = membership.accounts
    membership.tell(refused, f"{refused.token}-wrong")
    bridge = _bridge(scene, auth, membership)
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, *others)
    said = await bridge.wait_logged("session.refused")
    assert said["client_id"] == refused.client_id
    assert "HTTP 401" in said["reason"]
    async with scene.load(account=others[-1]) as load:
        await load.run_together([job(5) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        check_exactly(await scene.records(load.count), load.accepted)
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.status == 200
    assert not ready.check(f"account:{refused.client_id}")["ok"]
    assert "HTTP 401" in ready.check(f"account:{refused.client_id}")["detail"]
    assert all(ready.check(f"account:{other.client_id}")["ok"] for other in others)
    metrics = await bridge.metrics()
    assert metrics.total("bridge_subscribed") == 2
    assert metrics.total("bridge_subscribed", client_id=refused.client_id) == 0
    assert await bridge.stop() == 0
    asked = [each for each in auth.requests if each.channel == refused.channel]
    assert len(asked) == 1


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_refused_account_joins_once_its_token_is_right(
    scene: Scene, auth: AuthEndpoint, membership: Membership
) -> None:
    """Its token file is corrected while the bridge runs, and it needs no restart."""
    refused = membership.accounts[0]
    membership.tell(refused, f"{refused.token}-wrong")
    bridge = _bridge(scene, auth, membership)
    await bridge.start_and_wait()
    await bridge.wait_logged("session.refused")
    membership.tell(refused, refused.token)
    await bridge.wait_metrics(
        lambda now: now.total("bridge_subscribed") == 3, _PACE_SECONDS + 10
    )
    async with scene.load(account=refused) as load:
        await load.run_together([job(5) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        check_exactly(await scene.records(load.count), load.accepted)
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.check(f"account:{refused.client_id}")["ok"]
    assert await bridge.stop() == 0


async def test_accounts_that_are_all_refused_end_the_start(
    scene: Scene, auth: AuthEndpoint, membership: Membership
) -> None:
    """Exit code 3, and one sentence that says of whom, why, and what to do."""
    for account in membership.accounts:
        membership.revoke(account)
    bridge = _bridge(scene, auth, membership)
    bridge.start()
    sentence = await bridge.wait_refusal(3)
    assert "all 3 accounts" in sentence
    for account in membership.accounts:
        assert account.client_id in sentence
    assert "HTTP 401" in sentence
    assert "api_token_file" in sentence
