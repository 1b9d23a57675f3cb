"""Messages of a real soketi that are large, or larger than the session wants."""

from __future__ import annotations

import structlog.testing

from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.coverage import Cause
from tests.kit.publisher import Soketi
from tests.kit.soketi import SoketiServer
from tests.pusher.account import subscribed, until


async def test_row_41_soketis_message_of_15_mb_is_delivered(
    odd_soketi: SoketiServer,
) -> None:
    """It comes as one frame, over the session that stays subscribed."""
    large = "x" * 15_000_000
    async with subscribed(odd_soketi) as account:
        await odd_soketi.publish(account.channel, JOB_EVENT, large)
        # Behind it more than 1 MiB would wait, and then soketi drops in silence.
        await until(lambda: bool(account.events))
        await odd_soketi.publish(account.channel, JOB_EVENT, "after")
        await until(lambda: len(account.events) == 2)
        assert account.data == [large, "after"]
        assert len(account.wires) == 1


async def test_row_41_soketis_message_above_the_cap_is_a_loss_with_its_reason(
    soketi: Soketi,
) -> None:
    """The connection ends with 1009, nothing of it is delivered, and all goes on."""
    with structlog.testing.capture_logs() as logs:
        async with subscribed(soketi, max_message_bytes=50_000) as account:
            await soketi.publish(account.channel, JOB_EVENT, "before")
            await soketi.publish(account.channel, JOB_EVENT, "x" * 90_000)
            await until(lambda: len(account.wires) == 2 and account.subscribed)
            await soketi.publish(account.channel, JOB_EVENT, "after")
            await until(lambda: len(account.events) == 2)
            assert account.data == ["before", "after"]
            dials = [wire.dialled_at for wire in account.wires]
            assert dials[1] - dials[0] >= 1
            (gap,) = account.ear.interruptions
            assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, 1009)
    (lost,) = [log for log in logs if log["event"] == "session.lost"]
    assert (lost["code"], lost["action"]) == (1009, "retry_later")
    assert "above 50000 bytes" in lost["reason"]
