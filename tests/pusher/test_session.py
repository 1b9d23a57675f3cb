"""A session against a scripted server: handshake, delivery, liveness, ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.pusher.connection import State
from tests.kit.scripted import (
    CHANNEL,
    Peer,
    closing,
    end_at_once,
    refusal,
    spoken,
    staged,
    work,
)


async def test_events_are_delivered_once_a_run_with_the_time_of_reading(
    autojump_clock: MockClock,
) -> None:
    """What one read brought is one delivery, in order."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep(4)
        await peer.publish_at_once("zero", "one", "two")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(4.5)
        ((events, received_at_us),) = stage.deliveries.runs
        assert [event.data for event in events] == ["zero", "one", "two"]
        assert received_at_us == 4_000_000
        statistics = session.statistics
        assert statistics.subscribed
        assert statistics.state is State.SUBSCRIBED
        assert statistics.events == 3
        # Two of the subscription, and the pong behind the events.
        assert statistics.frames == 6
        assert statistics.connects == {"subscribed": 1}
    assert not session.statistics.subscribed
    assert session.statistics.state is State.DISCONNECTED


def _says(text: str) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.socket.send_message(text)
        await trio.sleep_forever()

    return script


async def _says_nothing(peer: Peer) -> None:
    await peer.socket.get_message()


async def _says_other_things(peer: Peer) -> None:
    while True:
        await peer.publish(channel="other")
        await trio.sleep(1)


_GREETING = '{"event":"pusher:connection_established","data":'


@pytest.mark.parametrize(
    ("first", "least_seconds", "most_seconds"),
    [
        *((_says(text), 1.0, 2.4) for text in ("junk", "null", '{"event":5}')),
        *((_says(f'{{"event":"pusher:{one}"}}'), 1.0, 2.4) for one in ("ping", "pong")),
        (_says(_GREETING + '{"socket_id":null}}'), 1.0, 2.4),
        (_says(_GREETING + '{"socket_id":"no number"}}'), 1.0, 2.4),
        # The deadline, a second for the close handshake, and a wait.
        (_says_nothing, 9.0, 11.0),
        (_says_other_things, 9.0, 11.0),
    ],
)
async def test_rows_04_05_06_what_is_no_greeting_fails_the_attempt(
    first: Callable[[Peer], Awaitable[None]],
    least_seconds: float,
    most_seconds: float,
    autojump_clock: MockClock,
) -> None:
    """Junk at once, silence and other events at the deadline; another try follows."""
    script = spoken(first)
    async with staged(script, script, spoken(work), timeout_seconds=8) as (
        stage,
        session,
    ):
        await trio.sleep(40)
        assert session.statistics.subscribed
        assert session.statistics.connects["not_established"] == 2
        one, two, three = stage.server.dials
        assert least_seconds <= two - one <= most_seconds
        assert three - two >= 1


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        (4000, "BRIDGE_PUSHER_URL"),
        (4001, "BRIDGE_PUSHER_APP_KEY"),
        (4003, "BRIDGE_PUSHER_APP_KEY"),
        (4009, "BRIDGE_API_TOKEN"),
    ],
)
@pytest.mark.parametrize("say_so", [True, False])
async def test_rows_17_19_a_refusal_is_a_typed_error(
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


@pytest.mark.parametrize(
    ("code", "least_seconds"),
    [
        # Quotas are refilled; what no table has is tried at the slowest pace.
        *((code, 22) for code in (4004, 4050, 4301, 4999)),
        # Codes below Pusher's are tried slower and slower.
        *((code, 1) for code in (1011, 3000, 3999)),
    ],
)
async def test_rows_18_20_a_quota_and_codes_of_nobodys_are_no_fast_loop(
    code: int, least_seconds: float, autojump_clock: MockClock
) -> None:
    """They are tried at a harmless pace, and none of them is final."""
    async with staged(closing(code, say_so=False)) as (stage, session):
        await trio.sleep(300)
        waits = [later - earlier for earlier, later in pairwise(stage.server.dials)]
        assert session.statistics.last_close_code == code
    assert min(waits) >= least_seconds
    assert max(waits) >= 22


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


async def test_rows_22_23_37_39_what_nobody_waits_for_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    """Errors, control events in a channel, answers to nothing, and non-events."""
    codes = (4200, 4009, 4301)
    shapes: tuple[object, ...] = ("words", None, {}, '{"message":"m"}', 5, [])
    controls = ("error", "connection_established", "ping", "pong")

    async def script(peer: Peer) -> None:
        await peer.enrol()
        for code in codes:
            await peer.complain(code)
        for data in shapes:
            await peer.say("pusher:error", data=data)
        for event in controls:
            await peer.say(f"pusher:{event}", channel=CHANNEL, data={"code": 4001})
        for channel in (CHANNEL, "other"):
            await peer.say(
                "pusher:subscription_error", channel=channel, data={"status": 401}
            )
        await peer.say("pusher_internal:subscription_succeeded", channel="other")
        for text in ("null", "[]", "1", "{}", '{"event":5}', "[" * 50_000, b"\x00"):
            await peer.socket.send_message(text)
        await peer.establish(socket_id="6.6")
        await peer.say("pusher:pong")
        await peer.answer_pings()

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(script)) as (stage, session):
            await trio.sleep(200)
            assert session.statistics.subscribed
            assert session.statistics.other_events == len(controls)
            assert session.statistics.unrecognized == 7
            assert len(stage.server.dials) == 1
    errors = [log for log in logs if log["event"] == "session.server_error"]
    assert [log["code"] for log in errors] == [*codes, *[None] * len(shapes)]


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


async def _once(peer: Peer) -> None:
    """Work for a second."""
    await peer.enrol()
    await trio.sleep(1)
    await peer.close(4200)


# Subscribed, refused (22 to 30 s before the next try), or another failure.
_SCRIPTS = {"s": spoken(_once), "r": closing(4009), "f": end_at_once}


@pytest.mark.parametrize(
    ("steps", "timeout_seconds"),
    [
        ("r", 20),
        ("fr", 20),
        ("sr", 0),
        ("srr", 20),
        ("srrr", 40),
        # An hour without network would prove nothing: two in a row are needed.
        ("srfrr", 20),
        ("srffrfrr", 20),
        # After a subscription the whole time has to pass again.
        ("srsrr", 20),
        ("srrsrrr", 40),
    ],
)
async def test_what_makes_a_refusal_final(
    steps: str, timeout_seconds: int, autojump_clock: MockClock
) -> None:
    """At once at the start; after it worked, two in a row that span the time."""
    error, stage = await refusal(
        *(_SCRIPTS[step] for step in steps), refused_timeout_seconds=timeout_seconds
    )
    assert error.code == 4009
    assert len(stage.server.dials) == len(steps)


_UNUSABLE: tuple[object, ...] = (None, 0, -1, 10**9, "soon", [], True)


@pytest.mark.parametrize(
    ("own", "servers", "interval"),
    [
        (30, 120, 30),
        (30, 20, 20),
        *((100, unusable, 30) for unusable in _UNUSABLE),
    ],
)
async def test_rows_03_08_silence_is_broken_by_a_pusher_ping(
    own: float, servers: object, interval: float, autojump_clock: MockClock
) -> None:
    """The shorter activity timeout counts, the default for an unusable one."""
    at: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.enrol(activity_timeout=servers)
        while True:
            assert (await peer.read())["event"] == "pusher:ping"
            at.append(trio.current_time())
            await peer.say("pusher:pong", data={})

    async with staged(spoken(script), activity_timeout_seconds=own) as (_, session):
        await trio.sleep(interval * 3 + 1)
        assert at == [interval, interval * 2, interval * 3]
        assert session.coverage.connection_us == interval * 3 * 1_000_000


async def test_row_11_the_servers_pings_are_answered(autojump_clock: MockClock) -> None:
    """`pusher:ping` and a WebSocket ping each get their pong, within seconds."""
    answered_at: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep_until(5)
        await peer.say("pusher:ping", data={})
        await peer.read_until("pusher:pong")
        answered_at.append(trio.current_time())
        await peer.socket.ping()
        answered_at.append(trio.current_time())
        # Behind the pong comes a ping, and what comes before its answer waits for it.
        await peer.say("pusher:ping")
        await peer.say("pusher:pong")
        await peer.read_until("pusher:pong")
        answered_at.append(trio.current_time())
        await peer.answer_pings()

    async with staged(spoken(script)):
        await trio.sleep(10)
        assert answered_at == [5, 5, 7]
