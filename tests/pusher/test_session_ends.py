"""A session against a scripted server: how connections end and come back."""

from __future__ import annotations

from itertools import pairwise

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.close_codes import Action
from bridge.pusher.coverage import Cause
from bridge.pusher.session import Outcome
from tests.kit.scripted import (
    Peer,
    closing,
    end_at_once,
    refusal,
    spoken,
    staged,
    work,
)
from tests.pusher.ear import Ear


async def test_row_14_a_server_that_always_says_4200_is_left_in_peace(
    autojump_clock: MockClock,
) -> None:
    """One immediate retry, then jittered waits; never above ten connects in 10 s."""
    async with staged(closing(4200)) as (stage, _):
        await trio.sleep(120)
        dials = stage.server.dials
    assert dials[1] == dials[0]
    waits = [later - earlier for earlier, later in pairwise(dials)]
    assert all(wait > 0.3 for wait in waits[1:])
    assert len(set(waits)) > 5
    for index, dial in enumerate(dials):
        assert sum(1 for other in dials[index:] if other < dial + 10) <= 10


async def test_row_15_a_server_that_restarts_is_found_within_two_seconds(
    autojump_clock: MockClock,
) -> None:
    """4200, refusals for some seconds, then a new server: subscribed, one loss."""
    closes_at, back_at = 20.0, 25.0

    async def first(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await trio.sleep_until(closes_at)
        await peer.complain(4200, "Server closed. Please reconnect shortly.")
        await peer.close(4200)

    async def later(stream: trio.abc.Stream) -> None:
        if trio.current_time() < back_at:
            return
        await spoken(work)(stream)

    ear = Ear()
    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(first), later, listener=ear) as (_, session):
            await trio.sleep_until(back_at + 2)
            assert session.statistics.subscribed
            assert session.statistics.connects[Outcome.SUBSCRIBED] == 2
    (gap,) = ear.interruptions
    assert (gap.cause, gap.close_code, gap.until_us) == (Cause.DISCONNECTED, 4200, None)
    # Nothing was asked since the acknowledgement.
    assert gap.since_us == 1_000_000
    assert back_at * 1_000_000 <= ear.subscriptions[1]
    assert [log["event"] for log in logs].count("session.lost") == 1
    lost = next(log for log in logs if log["event"] == "session.lost")
    assert (lost["code"], lost["action"]) == (4200, "retry_now")
    assert "Please reconnect" in lost["reason"]


async def test_row_16_over_capacity_backs_off_from_a_second_on(
    autojump_clock: MockClock,
) -> None:
    """4100 is never retried at once; waits grow, within bounds."""
    async with staged(closing(4100)) as (stage, _):
        await trio.sleep(600)
        waits = [later - earlier for earlier, later in pairwise(stage.server.dials)]
    assert min(waits) >= 1
    assert max(waits[:10]) <= 2
    assert 22.5 <= max(waits) <= 30
    assert len(set(waits)) == len(waits)
    # After half a minute each is twice the one before but for the jitter, which
    # takes a quarter at most, until the cap.
    grown = [wait for wait in waits if wait > 2]
    assert all(
        earlier * 1.5 <= later <= earlier * 2.7
        for earlier, later in pairwise(grown)
        if later < 22.5
    )
    assert all(wait >= 22.5 for wait in grown[4:])


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        (4001, "BRIDGE_PUSHER_APP_KEY"),
        (4003, "BRIDGE_PUSHER_APP_KEY"),
        (4009, "BRIDGE_API_TOKEN"),
    ],
)
@pytest.mark.parametrize("say_so", [True, False])
async def test_row_17_a_refusal_is_a_typed_error(
    autojump_clock: MockClock, code: int, setting: str, *, say_so: bool
) -> None:
    """It ends a session that never worked and says which setting to check."""
    with structlog.testing.capture_logs() as logs:
        error, stage = await refusal(closing(code, say_so=say_so))
    assert error.code == code
    assert setting in str(error)
    assert error.exit_code == 3
    assert len(stage.server.dials) == 1
    assert logs[-1]["event"] == "session.refused"


@pytest.mark.parametrize("code", [4001, 4003, 4009])
async def test_row_17_a_refusal_after_it_worked_is_tried_slowly(
    code: int, autojump_clock: MockClock
) -> None:
    """An app that is known again is served again."""

    async def once(peer: Peer) -> None:
        await peer.enrol()
        await peer.close(4200)

    async with staged(spoken(once), closing(code), spoken(work)) as (stage, session):
        await trio.sleep(60)
        assert session.statistics.subscribed
        assert 22 <= stage.server.dials[2] - stage.server.dials[1] <= 30


async def test_row_18_a_quota_that_is_used_up_is_tried_slowly(
    autojump_clock: MockClock,
) -> None:
    """4004 is not terminal: quotas are refilled."""
    async with staged(closing(4004)) as (stage, session):
        await trio.sleep(300)
        waits = [later - earlier for earlier, later in pairwise(stage.server.dials)]
        assert session.statistics.last_close_code == 4004
    assert min(waits) >= 22


async def test_row_19_4000_switches_to_tls(autojump_clock: MockClock) -> None:
    """The next connect goes to the TLS port; if that leads nowhere, back and again."""

    async def silent(stream: trio.abc.Stream) -> None:
        hello = await stream.receive_some()
        # The first byte of a TLS handshake record.
        assert bytes(hello[:1]) == b"\x16"

    asking = closing(4000)
    async with staged(
        asking, silent, asking, silent, spoken(work), url="ws://pusher.test:80"
    ) as (stage, session):
        await trio.sleep(30)
        plain, secure = ("pusher.test", 80), ("pusher.test", 443)
        assert stage.server.targets == [plain, secure, plain, secure, plain]
        assert stage.server.dials[1] == stage.server.dials[0]
        assert session.statistics.subscribed


async def test_row_19_4000_over_tls_is_final(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A server that asks for TLS over TLS can't be pleased."""
    real = "bridge.pusher.websocket.open_stream"

    async def plain(parts: object, tls: object, open_stream: object) -> object:
        return await open_stream("pusher.test", 443)  # type: ignore[operator]

    monkeypatch.setattr(real, plain)
    error, _ = await refusal(closing(4000), url="wss://pusher.test")
    assert error.code == 4000
    assert "BRIDGE_PUSHER_URL" in str(error)


@pytest.mark.parametrize("code", [4301, 4999, 4050])
async def test_row_20_an_unknown_code_is_no_fast_loop(
    code: int, autojump_clock: MockClock
) -> None:
    """It is tried at the slowest pace."""
    async with staged(closing(code, say_so=False)) as (stage, _):
        await trio.sleep(120)
        assert 4 <= len(stage.server.dials) <= 6


@pytest.mark.parametrize("code", [1011, 3000, 3999])
async def test_row_20_a_code_of_nobodys_is_no_fast_loop(
    code: int, autojump_clock: MockClock
) -> None:
    """Codes below Pusher's are tried from a second on, and slower and slower."""
    async with staged(closing(code, say_so=False)) as (stage, _):
        await trio.sleep(300)
        waits = [later - earlier for earlier, later in pairwise(stage.server.dials)]
    assert min(waits) >= 1
    assert max(waits) >= 22.5


async def test_row_21_an_error_and_a_bare_end_are_judged_by_the_error(
    autojump_clock: MockClock,
) -> None:
    """Reverb ends TCP without a close frame."""

    async def script(peer: Peer) -> None:
        await peer.complain(4001, "no such app")
        await trio.aclose_forcefully(peer.stream)

    error, _ = await refusal(spoken(script))
    assert error.code == 4001
    assert "no such app" in str(error)


@pytest.mark.parametrize("code", [4200, 4009, 4301])
async def test_row_22_an_error_alone_ends_nothing(
    code: int, autojump_clock: MockClock
) -> None:
    """The connection is kept, the error counted and logged."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.complain(code)
        await peer.answer_pings()

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(script)) as (stage, session):
            await trio.sleep(200)
            assert session.statistics.subscribed
            assert len(stage.server.dials) == 1
    errors = [log for log in logs if log["event"] == "session.server_error"]
    assert [log["code"] for log in errors] == [code]


@pytest.mark.parametrize("data", ["words", None, {}, '{"message":"m"}', 5, []])
async def test_row_23_an_error_of_any_shape_is_tolerated(
    data: object, autojump_clock: MockClock
) -> None:
    """Whatever `data` is, the session goes on."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.say("pusher:error", data=data)
        await peer.answer_pings()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep(5)
        assert session.statistics.subscribed


@pytest.mark.parametrize(
    "last", [b"", b"\x81", b"\x81\x7e", b"\x81\x7e\x04\x00{", b"\x01\x02{}"]
)
async def test_row_24_an_end_within_a_frame_is_an_ordinary_loss(
    last: bytes, autojump_clock: MockClock
) -> None:
    """What was whole is delivered, what was not isn't, and the session is back."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish("whole")
        await peer.stream.send_all(last)
        await trio.aclose_forcefully(peer.stream)

    async with staged(spoken(script), spoken(work)) as (stage, session):
        await trio.sleep(1)
        assert session.statistics.subscribed
        assert session.statistics.last_close_code is None
        assert [event.data for event in stage.deliveries.events] == ["whole"]
        assert stage.server.dials == [0, 0]


@pytest.mark.parametrize(("uptime", "at_once"), [(29, False), (31, True)])
async def test_row_25_only_a_stable_connection_resets_the_backoff(
    autojump_clock: MockClock, uptime: float, *, at_once: bool
) -> None:
    """A subscription alone earns no immediate retry; half a minute of it does."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        with trio.move_on_after(uptime):
            await peer.answer_pings()
        await peer.close(4200)

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(uptime * 5)
        waits = [
            later - earlier - uptime for earlier, later in pairwise(stage.server.dials)
        ]
    assert waits[0] == pytest.approx(0)
    assert all((wait == pytest.approx(0)) is at_once for wait in waits[1:])


async def test_row_25_a_server_that_flaps_is_found_within_two_seconds(
    autojump_clock: MockClock,
) -> None:
    """Waits stay short while each outage is young, however many there were."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        with trio.move_on_after(20):
            await peer.answer_pings()
        await peer.close(4200)

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(2000)
        waits = [
            later - earlier - 20 for earlier, later in pairwise(stage.server.dials)
        ]
    assert max(waits) <= 2


async def test_row_41_a_message_above_the_cap_is_a_loss_with_its_reason(
    autojump_clock: MockClock,
) -> None:
    """The session is back after it; the log says what it was, the gap its code."""
    ear = Ear()

    async def script(peer: Peer) -> None:
        await trio.sleep(1)
        await peer.enrol()
        await peer.publish("x" * 2000)
        await peer.answer_pings()

    with structlog.testing.capture_logs() as logs:
        async with staged(
            spoken(script), spoken(work), max_message_bytes=1024, listener=ear
        ) as (stage, session):
            await trio.sleep(5)
            assert session.statistics.subscribed
            assert session.statistics.last_close_code == 1009
            assert stage.deliveries.events == []
    (gap,) = ear.interruptions
    assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, 1009)
    assert len(ear.subscriptions) == 2
    lost = next(log for log in logs if log["event"] == "session.lost")
    assert "above 1024 bytes" in lost["reason"]
    assert lost["action"] == Action.RETRY_LATER


async def test_row_41_a_message_of_15_mb_is_delivered(
    autojump_clock: MockClock,
) -> None:
    """The default cap lets through what soketi was seen to send."""
    large = "x" * 15_000_000

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish(large)
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        assert [event.data for event in stage.deliveries.events] == [large]
        assert session.statistics.subscribed


async def test_an_unreachable_server_is_tried_for_ever(
    autojump_clock: MockClock,
) -> None:
    """Nothing listens for an hour; then it is subscribed."""

    async def later(stream: trio.abc.Stream) -> None:
        if trio.current_time() > 3600:
            await spoken(work)(stream)

    async with staged(end_at_once, later) as (stage, session):
        await trio.sleep(3640)
        assert session.statistics.subscribed
        dials = stage.server.dials
        assert session.statistics.connects[Outcome.UNREACHABLE] == len(dials) - 1
        assert 100 < len(dials) < 200
