"""DryAPI refuses what it granted before: borne for a while, then it is the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.e2e.auth_endpoint import AuthEndpoint
from tests.e2e.gap_records import gaps_of, now
from tests.e2e.jobs import job
from tests.e2e.line import Line, open_line
from tests.e2e.membership import Membership
from tests.e2e.scene import Account, Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer


# A try of what is refused comes every half a minute at most, by the code.
_PACE_SECONDS = 30.0


@pytest.fixture
async def line(scene: Scene) -> AsyncIterator[Line]:
    """The way of all accounts to soketi."""
    async with open_line(scene.soketi) as opened:
        yield opened


def _bridge_of_one(
    scene: Scene,
    auth: AuthEndpoint,
    membership: Membership,
    line: Line,
    *,
    refused_timeout_seconds: float = 300,
) -> BridgeProcess:
    """Describe a bridge of the first account alone."""
    account = membership.accounts[0]
    return scene.bridge(
        auth.url,
        pusher_url=line.url,
        client_id=account.client_id,
        api_token=None,
        api_token_file=membership.token_file(account),
        pusher_refused_timeout_seconds=refused_timeout_seconds,
    )


async def _wait_asked(auth: AuthEndpoint, account: Account, count: int) -> None:
    """Wait until an account has asked for so many authorisations."""

    def asked() -> int:
        return [request.channel for request in auth.requests].count(account.channel)

    with trio.fail_after(_PACE_SECONDS + 10):
        # A thread of the endpoint's counts.
        while asked() < count:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def _wait_subscribed(bridge: BridgeProcess, count: int) -> None:
    await bridge.wait_metrics(
        lambda now: now.total("bridge_subscribed") == count, _PACE_SECONDS + 10
    )


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_token_that_is_revoked_and_replaced_costs_one_gap(
    scene: Scene, auth: AuthEndpoint, membership: Membership, line: Line
) -> None:
    """It is read again for each try, so the bridge goes on by itself."""
    account = membership.accounts[0]
    bridge = _bridge_of_one(scene, auth, membership, line)
    await bridge.start_and_wait()
    membership.revoke(account)
    line.cut()
    await _wait_asked(auth, account, 2)
    refused = now()
    fresh = f"{account.token}-fresh"
    membership.admit(account, fresh)
    membership.tell(account, fresh)
    await _wait_subscribed(bridge, 1)
    async with scene.load(account=account) as load:
        await load.run_together([job(3)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    _, gap = gaps_of(await scene.gaps(4))
    assert gap.cause == "disconnected"
    assert gap.covers(refused, refused)
    assert bridge.logged("session.refused") == []


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_refusal_that_lasts_ends_the_bridge_after_its_rows_are_in_kafka(
    scene: Scene,
    auth: AuthEndpoint,
    membership: Membership,
    line: Line,
    own_kafka: KafkaServer,
) -> None:
    """Exit code 3 and a sentence that says what to do; what was read is there."""
    account = membership.accounts[0]
    bridge = _bridge_of_one(scene, auth, membership, line, refused_timeout_seconds=5)
    await bridge.start_and_wait()
    async with scene.load(account=account) as load:
        own_kafka.pause()
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.committed >= load.count)
        membership.revoke(account)
        line.cut()
        await bridge.wait_logged("service.stopping", 2 * _PACE_SECONDS)
        assert bridge.running
        own_kafka.resume()
        sentence = await bridge.wait_refusal(3)
        assert "HTTP 401" in sentence
        assert "BRIDGE_API_TOKEN" in sentence
        assert bridge.waiting_rows() == []
        check_exactly(await scene.records(load.count), load.accepted)
    _, gap = gaps_of(await scene.gaps(3))
    assert (gap.cause, gap.until) == ("disconnected", None)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_refusal_is_no_end_while_another_account_lives(
    scene: Scene, auth: AuthEndpoint, membership: Membership, line: Line
) -> None:
    """Long past its time the other's events flow; that one refused too is the end."""
    other, *refused = membership.accounts
    bridge = scene.bridge(
        auth.url,
        flags=["--config", str(membership.config)],
        pusher_url=line.url,
        client_id=None,
        api_token=None,
        pusher_refused_timeout_seconds=1,
    )
    await bridge.start_and_wait()
    await _wait_subscribed(bridge, 3)
    for account in refused:
        membership.revoke(account)
    line.cut()
    for account in refused:
        await _wait_asked(auth, account, 3)
    await _wait_subscribed(bridge, 1)
    async with scene.load(account=other) as load:
        await load.run_together([job(3)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        ready = await bridge.ask("/readyz")
        assert ready is not None
        assert ready.status == 200
        for account in refused:
            assert not ready.check(f"account:{account.client_id}")["ok"]
        assert ready.check(f"account:{other.client_id}")["ok"]

        membership.revoke(other)
        line.cut()
        assert await bridge.wait_exit(2 * _PACE_SECONDS + 10) == 3
        check_exactly(await scene.records(load.count), load.accepted)
    (sentence,) = bridge.sentences
    for account in membership.accounts:
        assert account.client_id in sentence
