"""Sessions side by side: who is given up, who goes on, when all of it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import msgspec
import pytest
import trio
from trio.testing import MockClock

from bridge.errors import RefusedError
from bridge.sessions import keep
from tests.kit.scripted import (
    Peer,
    Script,
    ScriptedServer,
    Stage,
    spoken,
    work,
)


class _Statistics(msgspec.Struct):
    client_id: str


class _Session:
    """
    Given up and subscribed when a test says so.

    Each step is a time in seconds and whether the session is refused for good after
    it, which makes `run` raise; the last subscription lasts.
    """

    def __init__(self, client_id: str, *steps: tuple[float, bool]) -> None:
        self.statistics = _Statistics(client_id)
        self.is_given_up = False
        self.steps = list(steps)
        self.runs = 0
        self.live = 0

    async def run(self) -> NoReturn:
        self.runs += 1
        self.live += 1
        try:
            while self.steps:
                seconds, refused = self.steps.pop(0)
                await trio.sleep(seconds)
                self.is_given_up = refused
                if refused:
                    raise RefusedError(f"{self.statistics.client_id} no", code=4009)
            await trio.sleep_forever()
        finally:
            self.live -= 1
        raise AssertionError


async def _refused(sessions: Sequence[_Session]) -> tuple[RefusedError, float]:
    began = trio.current_time()
    with pytest.raises(RefusedError) as caught:
        await keep(sessions)
    assert not any(session.live for session in sessions)
    return caught.value, trio.current_time() - began


async def test_a_single_account_that_is_refused_ends_all(
    autojump_clock: MockClock,
) -> None:
    """With nobody else there, its own error comes out, with its code."""
    error, after = await _refused([_Session("a", (3, True))])
    assert (str(error), error.code, after) == ("a no", 4009, 3)


async def test_a_refused_account_is_tried_while_another_lives(
    autojump_clock: MockClock,
) -> None:
    """It runs again each time, and joins the others when it is let in."""
    refused = _Session("a", (1, True), (30, True), (30, True), (30, False))
    well = _Session("b", (1, False))
    with trio.move_on_after(1000) as scope:
        await keep([refused, well])
    assert scope.cancelled_caught
    assert (refused.runs, refused.is_given_up, well.runs) == (4, False, 1)
    assert (refused.live, well.live) == (0, 0)


async def test_all_accounts_refused_end_all_with_one_sentence(
    autojump_clock: MockClock,
) -> None:
    """The last one to be given up ends it; the sentence names the first three."""
    sessions = [_Session(name, (seconds, True)) for seconds, name in enumerate("abcde")]
    sessions[0] = _Session("a", (0, True), (1000, True))
    for early in sessions[1:4]:
        early.steps.append((1000, True))
    error, after = await _refused(sessions)
    assert after == 4
    assert str(error) == (
        "dryAPI refuses all 5 accounts. a: a no; b: b no; c: c no; and 2 more"
    )


async def test_an_account_that_came_back_counts_as_living(
    autojump_clock: MockClock,
) -> None:
    """Having been given up once says nothing, once it was let in again."""
    back = _Session("a", (1, True), (1, False), (100, True))
    late = _Session("b", (10, True), (200, True))
    _, after = await _refused([back, late])
    assert after == 102


def _refusing(*times: tuple[float, float]) -> Script:
    """A server that works except within these times, in which it knows no such app."""

    async def script(peer: Peer) -> None:
        now = trio.current_time()
        if any(since <= now < until for since, until in times):
            await peer.complain(4001)
            await peer.close(4001)
            return
        ends_at = min((since for since, _ in times if since > now), default=math.inf)
        with trio.move_on_at(ends_at):
            await work(peer)
        await peer.close(4200)

    return spoken(script)


async def test_a_new_refusal_of_an_account_that_came_back_has_all_its_time(
    autojump_clock: MockClock,
) -> None:
    """Refused at the start, then let in: an incident of 30 s later on ends nothing."""
    async with trio.open_nursery() as servers:
        for_good, briefly = (
            Stage(ScriptedServer([_refusing(*times)], servers)).session(
                {"refused_timeout_seconds": 300}
            )
            for times in (((200, math.inf),), ((0, 100), (600, 630)))
        )
        briefly.statistics.client_id = "another"
        with trio.move_on_after(2000) as scope:
            await keep([for_good, briefly])
        assert scope.cancelled_caught
        assert for_good.is_given_up
        assert briefly.statistics.reconnects == 1
        servers.cancel_scope.cancel()
