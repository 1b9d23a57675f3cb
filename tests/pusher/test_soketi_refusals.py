"""A session that a real soketi, or the endpoint that signs for it, refuses."""

from __future__ import annotations

from itertools import pairwise

import pytest
import structlog.testing
import trio

from bridge.errors import RefusedError
from bridge.pusher.protocol import JOB_EVENT, connect_url
from bridge.pusher.websocket import open_websocket
from tests.kit.publisher import App, Soketi
from tests.pusher.account import (
    DEADLINE_SECONDS,
    Account,
    Signer,
    subscribed,
    until,
)
from tests.pusher.conftest import DISABLED, FULL


async def _refusal(account: Account) -> RefusedError:
    with trio.fail_after(DEADLINE_SECONDS), pytest.raises(RefusedError) as caught:
        await account.session.run()
    return caught.value


async def test_row_16_soketis_full_app_is_tried_again_politely(
    odd_soketi: Soketi,
) -> None:
    """After 4100 each wait is a second or more, until there is room."""
    soketi = Soketi(odd_soketi.url, FULL)
    url, greeted = connect_url(soketi.url, FULL.key), trio.Event()
    account = Account(soketi)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            async with open_websocket(
                url, lambda _: not greeted.set(), max_message_bytes=1000
            ):
                await greeted.wait()
                nursery.start_soon(account.session.run)
                # Room is made only when soketi has refused the second one too.
                await until(lambda: any(wire.heard for wire in account.wires[1:]))
                assert not account.subscribed
            await until(lambda: account.subscribed)
            nursery.cancel_scope.cancel()
    dials = [wire.dialled_at for wire in account.wires]
    assert len(dials) == 3
    assert all(later - earlier >= 1 for earlier, later in pairwise(dials))
    assert account.wires[0].heard[0]["data"]["code"] == 4100
    failures = [log for log in logs if log["event"] == "session.failed"]
    assert {(log["code"], log["action"]) for log in failures} == {(4100, "retry_later")}


@pytest.mark.parametrize(
    ("app", "code"),
    [(App(key="no-such-key"), 4001), (DISABLED, 4003)],
)
async def test_rows_17_23_an_app_that_soketi_does_not_serve_is_final(
    odd_soketi: Soketi, app: App, code: int
) -> None:
    """Soketi upgrades, says why in an object and closes; the error names the key."""
    account = Account(Soketi(odd_soketi.url, app))
    error = await _refusal(account)
    assert error.code == code
    assert "BRIDGE_PUSHER_APP_KEY" in str(error)
    (wire,) = account.wires
    (complaint,) = wire.heard
    assert complaint["event"] == "pusher:error"
    assert complaint["data"]["code"] == code
    assert complaint["data"]["message"] in str(error)


async def test_row_32_a_right_signature_after_a_wrong_one_works(
    soketi: Soketi,
) -> None:
    """Soketi refuses the first one; both are sent on the same connection."""
    signer = Signer(lambda *_: f"{soketi.app.key}:{'0' * 64}", soketi.sign_channel)
    async with subscribed(soketi, authorizer=signer) as account:
        refusal = account.wires[0].heard[1]
        assert refusal["event"] == "pusher:subscription_error"
        assert refusal["data"]["type"] == "AuthError"
        assert refusal["data"]["status"] == 401
        assert signer.asked == [account.wires[0].socket_id] * 2
        assert account.session.statistics.connects == {"subscribed": 1}
        await soketi.publish(account.channel, JOB_EVENT, "received")
        await until(lambda: account.data == ["received"])
