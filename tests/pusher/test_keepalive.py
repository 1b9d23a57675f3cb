"""Pings and enrolment on a connection that ends under their hands."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from bridge.errors import ConnectionLostError
from bridge.pusher.continuity import Continuity
from bridge.pusher.ending import LastWords
from bridge.pusher.enrolment import Enrolment
from bridge.pusher.interruption import Nobody
from bridge.pusher.keepalive import KeepAlive
from bridge.pusher.statistics import Statistics
from bridge.settings import PusherSettings
from tests.kit.scripted import CHANNEL, FakeAuthorizer


class _Gone:
    """A connection that has ended, which nobody has noticed yet."""

    async def ready(self) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    def take_run(self) -> list[str | bytes]:
        raise ConnectionLostError("gone")

    async def receive_run(self) -> list[str | bytes]:
        raise ConnectionLostError("gone")

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionLostError(f"gone before {text!r}")

    async def aclose(self, code: int = 1000) -> None:
        pytest.fail(f"closed with {code}")

    def abort(self) -> None:
        pytest.fail("aborted")


def _keep_alive() -> KeepAlive:
    return KeepAlive(
        _Gone(),
        interval_seconds=30,
        pong_timeout_seconds=10,
        continuity=Continuity(Nobody(), Statistics("42"), lambda: 0),
    )


async def test_a_ping_on_a_lost_connection_leaves_the_judgement_to_the_reader(
    autojump_clock: MockClock,
) -> None:
    """The reader knows the close code; the ping ends without a word."""
    assert await _keep_alive().ping() is None


async def test_a_pong_on_a_lost_connection_ends_without_a_word(
    autojump_clock: MockClock,
) -> None:
    """The same for answers to the server's pings."""
    keep_alive = _keep_alive()
    keep_alive.pinged()
    with trio.fail_after(5):
        await keep_alive.answer()


async def test_a_pong_that_nobody_waits_for_is_told() -> None:
    """Without a ping there is no proof of life in it."""
    assert not _keep_alive().ponged()


async def test_a_subscription_on_a_lost_connection_ends_without_a_word(
    autojump_clock: MockClock,
) -> None:
    """Enrolment too leaves the judgement to the reader."""
    enrolment = Enrolment(
        _Gone(),
        socket_id="1.2",
        channel=CHANNEL,
        authorizer=FakeAuthorizer(),
        settings=PusherSettings(),
        sending=lambda: None,
        last_words=LastWords(),
        statistics=Statistics("42"),
        jitter=random.Random(1),
    )
    assert await enrolment.run() is None
