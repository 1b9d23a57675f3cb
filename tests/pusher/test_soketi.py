"""A session against a real soketi, the server that dryAPI runs."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog.testing
import trio
from wsproto.frame_protocol import Opcode

from bridge import __version__
from bridge.pusher.coverage import Cause
from bridge.pusher.keepalive import ProbeOutcome
from bridge.pusher.protocol import (
    JOB_EVENT,
    Established,
    SubscriptionError,
    connect_url,
    decode,
)
from bridge.pusher.websocket import open_websocket
from tests.kit.publisher import Event, Soketi, SoketiError
from tests.kit.soketi import SoketiServer
from tests.pusher.account import Account, Signer, running, subscribed, until


# A server that was restarted is found within two seconds (close_codes.py); the rest is
# for what a busy machine takes to do it.
_FOUND_SECONDS = 2.5

# What this process may be late on a busy machine.
_LATE_SECONDS = 1.0


async def test_rows_01_02_a_subscription_with_soketi(soketi: Soketi) -> None:
    """Address, greeting, signature and acknowledgement; then events in order."""
    async with subscribed(soketi) as account, soketi.publisher() as publisher:
        wire = account.wire
        method, target, _ = wire.request_line.split()
        assert method == "GET"
        assert urlsplit(target).path == f"/app/{soketi.app.key}"
        assert parse_qs(urlsplit(target).query) == {
            "protocol": ["7"],
            "client": ["dryapi-kafka-bridge"],
            "version": [__version__],
        }
        greeting = wire.heard[0]
        assert isinstance(greeting["data"], str)
        assert decode(json.dumps(greeting)) == Established(wire.socket_id, 30.0)
        auth = soketi.sign_channel(wire.socket_id, account.channel)
        assert wire.said[0]["data"]["auth"] == auth

        payloads = [json.dumps({"n": number}) for number in range(200)]
        events = [Event(account.channel, JOB_EVENT, payload) for payload in payloads]
        await publisher.publish("private-client.another", JOB_EVENT, "{}")
        for start in range(0, len(payloads), 10):
            await publisher.publish_batch(events[start : start + 10])
        await until(lambda: len(account.events) == len(payloads))
        assert account.data == payloads
        statistics = account.session.statistics
        assert statistics.other_events == statistics.unrecognized == 0


async def test_rows_08_35_soketi_answers_pings_and_repeated_subscriptions(
    soketi: Soketi,
) -> None:
    """Pings are the protocol's; a repeated subscription delivers nothing twice."""
    async with subscribed(
        soketi, activity_timeout_seconds=0.1, probe_interval_seconds=0.1
    ) as account:
        statistics, wire = account.session.statistics, account.wire
        await until(lambda: statistics.probes[ProbeOutcome.ACKNOWLEDGED] >= 4)
        assert set(statistics.probes) == {ProbeOutcome.ACKNOWLEDGED}
        (began_us,) = account.ear.subscriptions
        proved_us = account.session.coverage.connection_us
        assert proved_us is not None
        assert proved_us > began_us
        said = [frame["event"] for frame in wire.said]
        assert set(said) == {"pusher:subscribe", "pusher:ping"}
        assert said.count("pusher:ping") >= 4
        assert Opcode.PING not in wire.opcodes_said
        # Without `data`.
        assert wire.heard[1] == {
            "event": "pusher_internal:subscription_succeeded",
            "channel": account.channel,
        }
        assert wire.heard.count(wire.heard[1]) >= 5
        assert await soketi.subscriptions(account.channel) == 1
        sent = [str(number) for number in range(10)]
        # What came twice would come before the last one.
        for data in (*sent, "last"):
            await soketi.publish(account.channel, JOB_EVENT, data)
        await until(lambda: "last" in account.data)
        assert account.data == [*sent, "last"]
        assert statistics.connects == {"subscribed": 1}
        assert account.ear.interruptions == []


async def test_rows_22_23_38_what_the_session_did_not_ask_for_changes_nothing(
    soketi: Soketi,
) -> None:
    """Errors, other channels and other names: the subscription stays."""
    async with (
        subscribed(soketi) as account,
        subscribed(soketi, account.session.statistics.client_id) as other,
        soketi.publisher() as publisher,
    ):

        async def answer(event: str, **members: object) -> dict[str, object]:
            """Send a frame of the test's, and wait for what soketi answers."""
            count = len(account.wire.heard)
            await account.say(event, **members)
            await until(lambda: len(account.wire.heard) > count)
            frame: dict[str, object] = account.wire.heard[count]
            return frame

        error = await answer(f"client-{'x' * 200}", channel=account.channel, data={})
        assert error["event"] == "pusher:error"
        assert "4301" in repr(error["data"])
        refusal = await answer("pusher:subscribe", data={"channel": "no good"})
        assert isinstance(decode(json.dumps(refusal)), SubscriptionError)
        assert "type" not in repr(refusal["data"])
        await answer("pusher:subscribe", data={"channel": "public"})
        await publisher.publish("public", JOB_EVENT, "of another channel")
        await publisher.publish(account.channel, "another.event", "{}")
        await other.say("client-event", channel=account.channel, data={"a": 1})
        # The error is one of them: soketi names the channel in it.
        await until(lambda: account.session.statistics.other_events == 4)
        await publisher.publish(account.channel, JOB_EVENT, "own")
        await until(lambda: bool(account.events))
        assert account.data == ["own"]
        assert len(account.wires) == 1


async def test_row_37_publishers_can_not_speak_for_soketi(soketi: Soketi) -> None:
    """Every control event that the HTTP API takes comes with its channel, as data."""
    forged = {
        "pusher:error": {"code": 4001, "message": "forged"},
        "pusher:ping": "{}",
        "pusher:pong": "{}",
        "pusher:connection_established": '{"socket_id":"6.6","activity_timeout":1}',
        "pusher_internal:subscription_succeeded": "{}",
        "pusher:subscription_error": {"type": "AuthError", "status": 401},
    }
    async with subscribed(soketi) as account, soketi.publisher() as publisher:
        with structlog.testing.capture_logs() as logs:
            for event, data in forged.items():
                await publisher.publish_raw(account.channel, event, data)
            await publisher.publish(account.channel, JOB_EVENT, "after")
            await until(lambda: bool(account.events))
        sent = [*forged, JOB_EVENT]
        heard = [frame["event"] for frame in account.wire.heard[2 : 2 + len(sent)]]
        assert heard == sent
        assert account.session.statistics.other_events == 4
        assert not [log for log in logs if log["event"] == "session.server_error"]
        assert account.subscribed
        assert len(account.wires) == 1
        # What goes out behind the job's event is the bridge's own ping.
        said = {frame["event"] for frame in account.wire.said}
        assert said <= {"pusher:subscribe", "pusher:ping"}


async def test_row_40_data_of_every_json_type_is_delivered(soketi: Soketi) -> None:
    """What the HTTP API takes comes as it was sent, with its own bytes."""
    sent = ["not json", "null", {"a": [1]}, [1, "b"], 5, 1.5, True, "ü€𝄞"]
    nested = json.loads("[" * 500 + "]" * 500)
    async with subscribed(soketi) as account, soketi.publisher() as publisher:
        for data in (*sent, nested, "a\ud800b"):
            await publisher.publish_raw(account.channel, JOB_EVENT, data)
        for data in (0, None, ""):
            with pytest.raises(SoketiError):
                await publisher.publish_raw(account.channel, JOB_EVENT, data)
        await until(lambda: len(account.events) == len(sent) + 2)
        assert account.data[:-1] == [*sent, nested]
        # soketi writes a lone surrogate as an escape, and so it is handed on.
        assert account.events[-1].original == b'"a\\ud800b"'
        for event, data in zip(account.events, sent, strict=False):
            text = (
                data
                if isinstance(data, str)
                else json.dumps(data, separators=(",", ":"))
            )
            assert event.original == text.encode()
        assert account.session.statistics.unrecognized == 0


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
            assert account.dials[1] - account.dials[0] >= 1
            (gap,) = account.ear.interruptions
            assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, 1009)
    (lost,) = [log for log in logs if log["event"] == "session.lost"]
    assert (lost["code"], lost["action"]) == (1009, "retry_later")
    assert "above 50000 bytes" in lost["reason"]


async def test_row_42_one_accounts_error_leaves_the_others_alone(
    soketi: Soketi,
) -> None:
    """A receiver that raises ends its own session, with the socket closed."""

    def deliver(events: object, received_at_us: int) -> None:
        raise ZeroDivisionError

    async with subscribed(soketi) as healthy:
        failing = Account(soketi, deliver=deliver)
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with running(failing):
                await until(lambda: failing.subscribed)
                await soketi.publish(failing.channel, JOB_EVENT, "bad")
                await trio.sleep(15)
        assert not failing.subscribed
        assert await soketi.subscriptions(failing.channel) == 0
        await soketi.publish(healthy.channel, JOB_EVENT, "good")
        await until(lambda: healthy.data == ["good"])
        assert len(healthy.wires) == 1


@pytest.mark.slow  # it starts a server
@pytest.mark.timeout(90)
async def test_row_16_soketis_full_app_is_tried_again_politely() -> None:
    """After 4100 each wait is a second or more, until there is room."""
    with SoketiServer(max_connections=1) as soketi:
        url, greeted = connect_url(soketi.url, soketi.app.key), trio.Event()
        account = Account(soketi)
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                async with open_websocket(
                    url, lambda _: not greeted.set(), max_message_bytes=1000
                ):
                    await greeted.wait()
                    nursery.start_soon(account.session.run)
                    # There is room only when soketi has refused the second one too.
                    await until(lambda: any(wire.heard for wire in account.wires[1:]))
                    assert not account.subscribed
                await until(lambda: account.subscribed)
                nursery.cancel_scope.cancel()
    assert len(account.dials) == 3
    assert all(later - earlier >= 1 for earlier, later in pairwise(account.dials))
    assert account.wires[0].heard[0]["data"]["code"] == 4100
    failures = [log for log in logs if log["event"] == "session.failed"]
    assert {(log["code"], log["action"]) for log in failures} == {(4100, "retry_later")}


async def test_row_32_a_right_signature_after_a_wrong_one_works(
    soketi: Soketi,
) -> None:
    """Soketi refuses the first one; both are sent on the same connection."""
    signer = Signer(soketi, first=f"{soketi.app.key}:{'0' * 64}")
    async with subscribed(soketi, authorizer=signer) as account:
        refusal = account.wire.heard[1]
        assert refusal["event"] == "pusher:subscription_error"
        assert refusal["data"]["type"] == "AuthError"
        assert refusal["data"]["status"] == 401
        assert signer.asked == [account.wires[0].socket_id] * 2
        assert account.session.statistics.connects == {"subscribed": 1}


@pytest.mark.slow  # it stops and pauses a server
async def test_rows_09_14_15_26_a_soketi_that_goes_is_found_again(
    own_soketi: SoketiServer,
) -> None:
    """It says 4200 for three seconds, and isn't stormed; one that hangs is left."""
    settings = {"activity_timeout_seconds": 1.0, "timeout_seconds": 1.0}
    async with subscribed(own_soketi, **settings) as account:
        with structlog.testing.capture_logs() as logs:
            await trio.to_thread.run_sync(own_soketi.stop)
            assert not account.subscribed
            farewell = account.wires[0].heard[-1]
            assert farewell["event"] == "pusher:error"
            assert farewell["data"]["code"] == 4200
            refused = [wire for wire in account.wires[1:] if wire.heard]
            assert 1 <= len(refused) <= 6
            for wire in refused:
                (complaint,) = wire.heard
                assert complaint["data"]["code"] == 4200
                assert wire.opcodes_heard[-1] is Opcode.CLOSE
            await trio.to_thread.run_sync(own_soketi.start)
            await until(lambda: account.subscribed, _FOUND_SECONDS)
        (lost,) = [log for log in logs if log["event"] == "session.lost"]
        assert (lost["code"], lost["action"]) == (4200, "retry_now")
        assert lost["delay_seconds"] == 0
        waits = [log["delay_seconds"] for log in logs if "delay_seconds" in log][1:]
        assert min(waits) > 0.3
        assert len(account.dials) <= 10
        # The new connection's subscription has a signature of its own.
        auth = own_soketi.sign_channel(account.wire.socket_id, account.channel)
        assert account.wire.said[0]["data"]["auth"] == auth
        await own_soketi.publish(account.channel, JOB_EVENT, "again")
        await until(lambda: account.data == ["again"])
        # The kernel of one that is paused accepts everything; only the pong is missing.
        own_soketi.pause()
        paused_at = trio.current_time()
        await until(lambda: not account.subscribed)
        assert trio.current_time() - paused_at < 2.0 + _LATE_SECONDS
        own_soketi.resume()
        await until(lambda: account.subscribed, _FOUND_SECONDS)
        assert account.session.statistics.connects["subscribed"] == 3
        assert [(gap.cause, gap.close_code) for gap in account.ear.interruptions] == [
            (Cause.DISCONNECTED, 4200),
            (Cause.DEAF, None),
        ]
