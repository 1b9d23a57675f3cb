"""
A session against a scripted server: connecting, subscribing, delivering.

Liveness stands in test_session_liveness.py, ends in test_session_ends.py.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog.testing
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.errors import AuthorizationError, ConfigError
from bridge.pusher.session import Session
from bridge.pusher.state import State
from bridge.pusher.statistics import Outcome
from bridge.settings import PusherSettings
from tests.pusher.scripted import (
    APP_KEY,
    CHANNEL,
    Deliveries,
    FakeAuthorizer,
    Peer,
    refusal,
    spoken,
    staged,
    work,
)


async def test_row_01_the_server_is_asked_for_protocol_7(
    autojump_clock: MockClock,
) -> None:
    """The upgrade's path has the app key, its query what the protocol wants."""
    paths: list[str] = []

    async def script(peer: Peer) -> None:
        paths.append(peer.path)
        await work(peer)

    async with staged(spoken(script), url="ws://pusher.test:6001/prefix") as (stage, _):
        await trio.sleep(1)
        assert stage.server.targets == [("pusher.test", 6001)]
    parts = urlsplit(paths[0])
    assert parts.path == f"/prefix/app/{APP_KEY}"
    assert parse_qs(parts.query)["protocol"] == ["7"]


async def test_events_are_delivered_once_a_run_with_the_time_of_reading(
    autojump_clock: MockClock,
) -> None:
    """What one read brought is one delivery, in order."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await trio.sleep(5)
        await peer.publish_at_once("zero", "one", "two")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(6)
        ((events, received_at_us),) = stage.deliveries.runs
        assert [event.data for event in events] == ["zero", "one", "two"]
        assert received_at_us == 5_000_000
        statistics = session.statistics
        assert statistics.subscribed
        assert statistics.state is State.SUBSCRIBED
        assert statistics.events == 3
        assert statistics.frames == 5
        assert statistics.last_event_at_us == 5_000_000
        assert statistics.last_frame_at == 5
        assert statistics.last_subscribed_at_us == 0
        assert statistics.connects == {Outcome.SUBSCRIBED: 1}
    assert not session.statistics.subscribed
    assert session.statistics.state is State.DISCONNECTED


async def test_an_event_right_behind_the_acknowledgement_is_delivered(
    autojump_clock: MockClock,
) -> None:
    """No event of the channel is too early."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.publish("before")
        await peer.acknowledge()
        await peer.publish("after")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(1)
        assert [event.data for event in stage.deliveries.events] == ["before", "after"]


@pytest.mark.parametrize(
    "data",
    [
        {"socket_id": None},
        {"socket_id": "no number"},
    ],
)
async def test_row_04_a_connection_without_socket_id_is_tried_again(
    data: dict[str, object], autojump_clock: MockClock
) -> None:
    """The attempt fails at once, and the next one works."""

    async def script(peer: Peer) -> None:
        await peer.establish(**data)
        await trio.sleep_forever()

    async with staged(spoken(script), spoken(work)) as (stage, session):
        await trio.sleep(5)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.NOT_ESTABLISHED] == 1
        assert 1 <= stage.server.dials[1] <= 2


async def test_row_05_silence_after_the_upgrade_is_a_timeout(
    autojump_clock: MockClock,
) -> None:
    """The handshake has one deadline, from dialling to the socket id."""

    async def script(peer: Peer) -> None:
        await trio.sleep(6)
        await trio.sleep_forever()

    async with staged(spoken(script), spoken(work), connect_timeout_seconds=8) as (
        stage,
        session,
    ):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(15)
        assert session.statistics.subscribed
        # The deadline, a second for the close handshake, and a wait.
        assert 9 <= stage.server.dials[1] - stage.server.dials[0] <= 11
    assert "connection_established within 8 s" in logs[0]["reason"]


@pytest.mark.parametrize(
    "first",
    ["junk", "null", '{"event":5}', '{"event":"pusher:pong"}'],
)
async def test_row_06_a_first_frame_that_is_junk_fails_the_attempt(
    first: str, autojump_clock: MockClock
) -> None:
    """The session backs off and connects again, again and again."""

    async def script(peer: Peer) -> None:
        await peer.socket.send_message(first)
        await trio.sleep_forever()

    junk = spoken(script)
    async with staged(junk, junk, junk, spoken(work)) as (_, session):
        await trio.sleep(10)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.NOT_ESTABLISHED] == 3


async def test_row_06_another_event_first_is_passed_over(
    autojump_clock: MockClock,
) -> None:
    """An event of some channel before the greeting does no harm."""

    async def script(peer: Peer) -> None:
        await peer.publish(event="early", channel="other")
        await work(peer)

    async with staged(spoken(script)) as (_, session):
        await trio.sleep(1)
        assert session.statistics.subscribed
        assert session.statistics.other_events == 1


async def test_row_06_nothing_but_other_events_is_a_timeout(
    autojump_clock: MockClock,
) -> None:
    """They don't keep a handshake alive."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.publish(channel="other")
            await trio.sleep(1)

    async with staged(spoken(script), spoken(work)) as (_, session):
        await trio.sleep(15)
        assert session.statistics.subscribed


@pytest.mark.parametrize("status", [401, 404, 503, 302])
async def test_row_07_an_http_answer_to_the_upgrade_is_tried_again(
    status: int, autojump_clock: MockClock
) -> None:
    """No status is final: a proxy answers anything while a server is replaced."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(f"HTTP/1.1 {status} No\r\n\r\n".encode())

    async with staged(script, spoken(work)) as (stage, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(5)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.UNREACHABLE] == 1
        assert stage.server.dials[1] >= 1
    failed = logs[0]
    assert failed["event"] == "session.failed"
    assert failed["code"] == status
    assert f"HTTP {status}" in failed["reason"]


async def test_row_26_each_connection_has_its_own_signature(
    autojump_clock: MockClock,
) -> None:
    """After a reconnect the new socket id is signed, and its subscription acked."""
    subscriptions: list[tuple[str, object]] = []

    async def script(peer: Peer) -> None:
        await peer.establish()
        frame = await peer.subscribe()
        subscriptions.append((peer.socket_id, frame["data"]["auth"]))
        await peer.close(4200)

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(5)
        assert session.statistics.reconnects >= 2
        assert stage.authorizer.asked == [socket_id for socket_id, _ in subscriptions]
        assert len(set(stage.authorizer.asked)) == len(subscriptions)
        for socket_id, auth in subscriptions:
            assert auth == f"{APP_KEY}:signature-for-{socket_id}"


async def test_row_27_a_signature_for_a_socket_id_that_is_gone_is_never_sent(
    autojump_clock: MockClock,
) -> None:
    """The request ends with its connection."""
    cancelled = trio.Event()

    class Slow(FakeAuthorizer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            auth = await super().authorize(socket_id, channel)
            if len(self.asked) == 1:
                try:
                    await trio.sleep(60)
                except trio.Cancelled:
                    cancelled.set()
                    raise
            return auth

    async def lost(peer: Peer) -> None:
        await peer.establish()
        await trio.sleep(2)
        await peer.close(4200)

    frames: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.establish()
        frame = await peer.subscribe()
        frames.append(frame["data"]["auth"].endswith(peer.socket_id))
        while True:
            frames.append((await peer.read())["event"])
            await peer.say("pusher:pong")

    async with staged(spoken(lost), spoken(script), authorizer=Slow()) as (_, session):
        await trio.sleep(100)
        assert cancelled.is_set()
        assert session.statistics.subscribed
        assert frames == [True, "pusher:ping", "pusher:ping", "pusher:ping"]


async def test_row_28_a_failed_authorisation_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    """The connection stays open, Retry-After is kept, and pings go on."""
    authorizer = FakeAuthorizer(
        AuthorizationError("HTTP 500", status=500),
        AuthorizationError("HTTP 429", status=429, retry_after_seconds=70),
        AuthorizationError("no answer"),
    )
    pings = 0

    async def script(peer: Peer) -> None:
        nonlocal pings
        await peer.establish()
        while True:
            frame = await peer.read()
            if frame["event"] == "pusher:subscribe":
                await peer.acknowledge()
            else:
                pings += 1
                await peer.say("pusher:pong")

    async with staged(spoken(script), authorizer=authorizer) as (stage, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(69)
            assert session.statistics.state is State.AUTHORIZING
            await trio.sleep(11)
        assert session.statistics.subscribed
        assert session.statistics.authorization_failures == 3
        assert len(stage.server.dials) == 1
        assert len(set(stage.authorizer.asked)) == 1
        assert pings == 2
    failures = [log for log in logs if log["event"] == "authorization.failed"]
    assert [log["status"] for log in failures] == [500, 429, None]
    assert failures[1]["delay_seconds"] == 70
    assert all(log["delay_seconds"] >= 1 for log in failures)


async def test_row_29_a_refused_token_ends_a_session_that_never_worked(
    autojump_clock: MockClock,
) -> None:
    """The error says which token to check."""
    terminal = AuthorizationError("check BRIDGE_API_TOKEN", status=401, terminal=True)
    error, stage = await refusal(spoken(work), authorizer=FakeAuthorizer(terminal))
    assert error.code == 401
    assert "BRIDGE_API_TOKEN" in str(error)
    assert len(stage.server.dials) == 1


async def test_row_30_a_refusal_after_it_worked_is_tried_slowly(
    autojump_clock: MockClock,
) -> None:
    """A session that was subscribed once comes back when it is let in again."""
    terminal = AuthorizationError("HTTP 403", status=403, terminal=True)

    class Revoked(FakeAuthorizer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            auth = await super().authorize(socket_id, channel)
            if 1 < len(self.asked) < 4:
                raise terminal
            return auth

    async def once(peer: Peer) -> None:
        await peer.enrol()
        await peer.close(4200)

    async with staged(spoken(once), spoken(work), authorizer=Revoked()) as (
        stage,
        session,
    ):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(90)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.NOT_AUTHORIZED] == 2
        assert stage.server.dials[2] - stage.server.dials[1] >= 22
    assert [log.get("verdict") for log in logs] == [
        None,
        "retry_now",
        "terminal",
        "terminal",
        None,
    ]


async def test_row_32_a_refused_subscription_is_tried_with_a_new_signature(
    autojump_clock: MockClock,
) -> None:
    """Soketi's error ends nothing; the second subscription works."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.say(
            "pusher:subscription_error",
            channel=CHANNEL,
            data={"type": "AuthError", "error": "no", "status": 401},
        )
        await peer.subscribe()
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(5)
        assert session.statistics.subscribed
        assert len(stage.server.dials) == 1
        assert len(stage.authorizer.asked) == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"type": "AuthError", "error": "no", "status": 401}, 401),
        ({"error": "bad name", "status": 4009}, 4009),
    ],
)
async def test_row_32_a_subscription_that_stays_refused_is_final(
    data: dict[str, object], code: int, autojump_clock: MockClock
) -> None:
    """The error names the settings that have to belong together."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        while True:
            await peer.read_until("pusher:subscribe")
            await peer.say("pusher:subscription_error", channel=CHANNEL, data=data)

    error, stage = await refusal(spoken(script))
    assert error.code == code
    assert "BRIDGE_PUSHER_APP_KEY" in str(error)
    assert len(stage.authorizer.asked) == 2


@pytest.mark.parametrize(
    ("status", "least_seconds"), [(4100, 1.0), (None, 22.0), (4301, 22.0)]
)
async def test_row_32_other_refusals_are_tried_again(
    status: int | None, least_seconds: float, autojump_clock: MockClock
) -> None:
    """A channel that is full may have room later."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        while True:
            await peer.read_until("pusher:subscribe")
            await peer.say(
                "pusher:subscription_error", channel=CHANNEL, data={"status": status}
            )

    async with staged(spoken(script), spoken(work)) as (stage, session):
        await trio.sleep(40)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.NOT_AUTHORIZED] == 1
        assert stage.server.dials[1] >= least_seconds


async def test_row_33_an_unanswered_subscription_is_sent_again(
    autojump_clock: MockClock,
) -> None:
    """The second one is answered, on the same connection."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.subscribe()
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(12)
        assert session.statistics.subscribed
        assert len(stage.server.dials) == 1
        assert session.statistics.last_subscribed_at == 10


async def test_row_33_a_late_answer_is_as_good_as_one_in_time(
    autojump_clock: MockClock,
) -> None:
    """The answer to the first subscription comes after the second was sent."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.read_until("pusher:subscribe")
        await peer.acknowledge()
        await peer.say(
            "pusher:subscription_error",
            channel=CHANNEL,
            data={"error": "Existing subscription", "status": 4009},
        )
        await peer.answer_pings()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep(30)
        assert session.statistics.subscribed
        assert session.statistics.unexpected == 1


async def test_row_33_two_unanswered_subscriptions_end_the_connection(
    autojump_clock: MockClock,
) -> None:
    """The next connection is subscribed."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.answer_pings()

    async with staged(spoken(script), spoken(work)) as (stage, session):
        await trio.sleep(30)
        assert session.statistics.subscribed
        assert session.statistics.connects[Outcome.NOT_SUBSCRIBED] == 1
        assert 20 <= stage.server.dials[1] <= 23


async def test_row_34_an_error_without_channel_answers_the_subscription(
    autojump_clock: MockClock,
) -> None:
    """Reverb refuses with 4009, keeps the connection and says no more."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        while True:
            await peer.read_until("pusher:subscribe")
            await peer.say(
                "pusher:error",
                data=json.dumps(
                    {"code": 4009, "message": "Connection is unauthorized"}
                ),
            )

    error, _ = await refusal(spoken(script))
    assert error.code == 4009
    assert "Connection is unauthorized" in str(error)
    assert "BRIDGE_CLIENT_ID" in str(error)


async def test_row_35_a_repeated_acknowledgement_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    """It is one subscription, one log line."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.acknowledge()
        await peer.answer_pings()

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(script)) as (_, session):
            await trio.sleep(5)
            assert session.statistics.subscribed
            assert session.statistics.connects == {Outcome.SUBSCRIBED: 1}
    assert [log["event"] for log in logs] == ["session.subscribed"]


async def test_row_37_a_forged_control_event_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    """Control events in a channel, and answers that nobody waits for, are counted."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        for event in (
            "pusher:error",
            "pusher:connection_established",
            "pusher:ping",
            "pusher:pong",
        ):
            await peer.say(event, channel=CHANNEL, data={"code": 4001})
        for channel in (CHANNEL, "other"):
            await peer.say(
                "pusher:subscription_error", channel=channel, data={"status": 401}
            )
        await peer.say("pusher_internal:subscription_succeeded", channel="other")
        await peer.establish(socket_id="6.6")
        await peer.say("pusher:pong")
        assert (await peer.read())["event"] == "pusher:ping"
        await peer.say("pusher:pong")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(100)
        assert session.statistics.subscribed
        assert session.statistics.other_events == 4
        assert session.statistics.unexpected == 5
        assert session.statistics.server_errors == 0
        assert len(stage.server.dials) == 1


async def test_row_38_events_of_other_names_and_channels_are_counted(
    autojump_clock: MockClock,
) -> None:
    """They are not delivered and do no harm."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish(channel="private-client.43")
        await peer.publish(event="another.event")
        await peer.say("request.status.updated", data="{}")
        await peer.say(
            "request.status.updated", channel=CHANNEL, data="{}", user_id="u"
        )
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        assert session.statistics.other_events == 3
        assert len(stage.deliveries.events) == 1


async def test_row_39_frames_that_are_no_events_are_counted(
    autojump_clock: MockClock,
) -> None:
    """The connection survives them, binary ones too."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        for text in ("null", "[]", "1", "{}", '{"event":5}', "[" * 50_000):
            await peer.socket.send_message(text)
        await peer.socket.send_message(b"\x00")
        await peer.publish("good")
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        assert session.statistics.unrecognised == 7
        assert session.statistics.subscribed
        assert [event.data for event in stage.deliveries.events] == ["good"]
        assert len(stage.server.dials) == 1


@pytest.mark.parametrize("data", ["not json", "null", 0, {"a": 1}, [1], True])
async def test_row_40_data_of_any_shape_is_delivered(
    data: object, autojump_clock: MockClock
) -> None:
    """What it means is not the session's business."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish(data)
        await peer.answer_pings()

    async with staged(spoken(script)) as (stage, _):
        await trio.sleep(1)
        assert [event.data for event in stage.deliveries.events] == [data]


async def test_row_42_an_error_of_the_receiver_leaks_nothing(
    autojump_clock: MockClock,
) -> None:
    """It is a bug of ours and ends the session, with the socket closed."""

    def deliver(events: object, received_at_us: int) -> None:
        raise ZeroDivisionError

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.publish()
        await peer.answer_pings()

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with staged(spoken(script), deliver=deliver) as (stage, _):
            await trio.sleep(1)
    assert stage.server.live == 0


async def test_a_cancelled_session_closes_its_socket_politely(
    autojump_clock: MockClock,
) -> None:
    """The server sees close code 1000 and nothing of it is left."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await work(peer)

    async with staged(spoken(script)) as (stage, session):
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert stage.server.live == 1
    assert stage.server.live == 0
    assert peers[0].socket.closed is not None
    assert peers[0].socket.closed.code == 1000
    assert not session.statistics.subscribed


async def test_no_secret_is_in_any_log_line(autojump_clock: MockClock) -> None:
    """Signatures stay between the endpoint and the server."""

    async def script(peer: Peer) -> None:
        await peer.enrol()
        await peer.complain(4301, "slow down")
        await peer.close(4200)

    with structlog.testing.capture_logs() as logs:
        async with staged(spoken(script)):
            await trio.sleep(20)
    assert {log["event"] for log in logs} == {
        "session.subscribed",
        "session.server_error",
        "session.lost",
    }
    assert "signature" not in repr(logs)


@pytest.mark.parametrize(
    ("client_id", "settings", "name"),
    [
        ("a/b", PusherSettings(), "BRIDGE_CLIENT_ID"),
        ("42", PusherSettings(url="http://pusher.test"), "BRIDGE_PUSHER_URL"),
        ("42", PusherSettings(ca_file="/no/such.pem"), "BRIDGE_PUSHER_CA_FILE"),
        ("42", PusherSettings(ca_file=__file__), "BRIDGE_PUSHER_CA_FILE"),
    ],
)
def test_settings_that_make_no_session_are_refused_at_once(
    client_id: str, settings: PusherSettings, name: str
) -> None:
    """A wrong address, client id or file of certificates names its setting."""
    with pytest.raises(ConfigError, match=name):
        Session(client_id, settings, FakeAuthorizer(), Deliveries())
