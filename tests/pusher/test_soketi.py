"""
A session against a real soketi, the server that dryAPI runs: what is on the wire.

Refusals stand in test_soketi_refusals.py, restarts in test_soketi_restarts.py,
large messages in test_soketi_sizes.py, runs that are cancelled in
test_soketi_runs.py, minutes without an event in test_soketi_minutes.py.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog.testing
import trio

from bridge import __version__
from bridge.pusher import outgoing
from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.protocol import Established, SubscriptionError, decode
from bridge.pusher.session import Outcome
from tests.kit.publisher import Event, Soketi, SoketiError
from tests.pusher.account import PING, Account, running, subscribed, until


async def test_events_of_the_own_channel_arrive_in_order(soketi: Soketi) -> None:
    """What is published after the acknowledgement is delivered, nothing else."""
    async with subscribed(soketi) as account, soketi.publisher() as publisher:
        payloads = [json.dumps({"n": number}) for number in range(200)]
        await publisher.publish("private-client.another", JOB_EVENT, "{}")
        for start in range(0, len(payloads), 10):
            await publisher.publish_batch(
                [
                    Event(account.channel, JOB_EVENT, payload)
                    for payload in payloads[start : start + 10]
                ]
            )
        await until(lambda: len(account.events) == len(payloads))
        assert account.data == payloads
        statistics = account.session.statistics
        assert statistics.other_events == 0
        assert statistics.unrecognized == statistics.unexpected == 0


async def test_row_01_soketi_upgrades_the_address_of_protocol_7(
    soketi: Soketi,
) -> None:
    """The request line names key, protocol, client and version."""
    async with subscribed(soketi) as account:
        method, target, _ = account.wire.request_line.split()
        assert method == "GET"
        assert urlsplit(target).path == f"/app/{soketi.app.key}"
        assert parse_qs(urlsplit(target).query) == {
            "protocol": ["7"],
            "client": ["dryapi-kafka-bridge"],
            "version": [__version__],
        }
        assert account.wire.status_line.startswith("HTTP/1.1 101")


async def test_row_02_soketis_greeting_is_a_string(soketi: Soketi) -> None:
    """The socket id that is signed is the one in it."""
    async with subscribed(soketi) as account:
        greeting = account.wire.heard[0]
        assert isinstance(greeting["data"], str)
        assert decode(json.dumps(greeting)) == Established(account.wire.socket_id, 30.0)
        subscription = account.wire.said[0]
        assert subscription["data"]["auth"] == soketi.sign_channel(
            account.wire.socket_id, account.channel
        )


async def test_row_07_soketi_answers_a_wrong_path_with_404(soketi: Soketi) -> None:
    """It is named with its status and tried again, no sooner than after a second."""
    account = Account(soketi, url=f"{soketi.url}/nowhere")
    with structlog.testing.capture_logs() as logs:
        async with running(account):
            await until(lambda: len(account.wires) == 2)
            statistics = account.session.statistics
            assert statistics.connects[Outcome.UNREACHABLE] >= 1
    assert "/nowhere/app/" in account.wires[0].request_line
    assert account.wires[1].dialled_at - account.wires[0].dialled_at >= 1
    assert logs[0]["code"] == 404
    assert "HTTP 404" in logs[0]["reason"]


async def test_row_08_soketi_answers_the_pings(soketi: Soketi) -> None:
    """They are the protocol's own, and each pong is a proof of life."""
    async with subscribed(soketi, activity_timeout_seconds=0.1) as account:
        await until(lambda: account.session.statistics.frames >= 10)
        assert account.session.statistics.proofs.answered_us
        assert account.session.statistics.unexpected == 0
        wire = account.wire
        said = [frame["event"] for frame in wire.said]
        assert said[0] == "pusher:subscribe"
        assert set(said[1:]) == {"pusher:ping"}
        assert PING not in wire.opcodes_said
        heard = [frame["event"] for frame in wire.heard]
        assert heard.count("pusher:pong") >= 8


async def test_row_22_an_error_of_soketis_that_ends_nothing(soketi: Soketi) -> None:
    """4301 for an event of ours whose name is too long: counted, and all goes on."""
    async with subscribed(soketi) as account:
        await account.say(f"client-{'x' * 200}", channel=account.channel, data={})
        await until(lambda: account.session.statistics.other_events == 1)
        error = account.wire.heard[-1]
        assert (error["event"], error["data"]["code"]) == ("pusher:error", 4301)
        await soketi.publish(account.channel, JOB_EVENT, "after")
        await until(lambda: bool(account.events))
        assert len(account.wires) == 1


async def test_row_32_soketi_refuses_a_name_without_a_type(soketi: Soketi) -> None:
    """Such an answer to another channel is read and leaves ours alone."""
    async with subscribed(soketi) as account:
        await account.say("pusher:subscribe", data={"channel": "no good"})
        await until(lambda: account.session.statistics.unexpected == 1)
        refusal = account.wire.heard[-1]
        assert "type" not in refusal["data"]
        assert isinstance(decode(json.dumps(refusal)), SubscriptionError)
        await soketi.publish(account.channel, JOB_EVENT, "after")
        await until(lambda: bool(account.events))


async def test_row_35_soketi_acknowledges_without_data_and_twice(
    soketi: Soketi,
) -> None:
    """A repeated subscription is acknowledged again and delivers nothing twice."""
    async with subscribed(soketi) as account:
        (acknowledgement,) = account.wire.heard[1:]
        assert acknowledgement == {
            "event": "pusher_internal:subscription_succeeded",
            "channel": account.channel,
        }
        assert account.connection is not None
        auth = soketi.sign_channel(account.wire.socket_id, account.channel)
        await account.connection.send(outgoing.subscribe(account.channel, auth))
        await until(lambda: account.session.statistics.frames == 3)
        assert account.wire.heard[2] == acknowledgement
        assert account.session.statistics.connects == {Outcome.SUBSCRIBED: 1}
        assert await soketi.subscriptions(account.channel) == 1
        for data in ("one", "two"):
            await soketi.publish(account.channel, JOB_EVENT, data)
        await until(lambda: len(account.events) >= 2)
        assert account.data == ["one", "two"]


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
        for event, data in forged.items():
            await publisher.publish_raw(account.channel, event, data)
        await publisher.publish(account.channel, JOB_EVENT, "after")
        await until(lambda: bool(account.events))
        sent = [*forged, JOB_EVENT]
        heard = [frame["event"] for frame in account.wire.heard[2 : 2 + len(sent)]]
        assert heard == sent
        statistics = account.session.statistics
        assert statistics.other_events == 4
        # A repeated acknowledgement fits; a refusal after it doesn't.
        assert statistics.unexpected == 1
        assert statistics.server_errors == 0
        assert account.subscribed
        assert len(account.wires) == 1
        # What goes out behind the job's event is the bridge's own ping.
        said = {frame["event"] for frame in account.wire.said}
        assert said <= {"pusher:subscribe", "pusher:ping"}


async def test_row_38_what_nobody_asked_for_is_counted(soketi: Soketi) -> None:
    """Another name, another client's event and a channel that we never wanted."""
    async with (
        subscribed(soketi) as account,
        subscribed(soketi, account.session.statistics.client_id) as other,
        soketi.publisher() as publisher,
    ):
        await account.say("pusher:subscribe", data={"channel": "public"})
        await until(lambda: account.session.statistics.unexpected == 1)
        await publisher.publish("public", JOB_EVENT, "of another channel")
        await publisher.publish(account.channel, "another.event", "{}")
        await other.say("client-event", channel=account.channel, data={"a": 1})
        await until(lambda: account.session.statistics.other_events == 3)
        await publisher.publish(account.channel, JOB_EVENT, "own")
        await until(lambda: bool(account.events))
        assert account.data == ["own"]


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
        assert account.data[: len(sent)] == sent
        assert account.data[len(sent)] == nested
        # soketi writes a lone surrogate as an escape, and so it is handed on.
        assert account.events[-1].original == b'"a\\ud800b"'
        for event, data in zip(account.events, sent, strict=False):
            assert event.original == (
                data.encode()
                if isinstance(data, str)
                else json.dumps(data, separators=(",", ":")).encode()
            )
        assert account.session.statistics.unrecognized == 0


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
