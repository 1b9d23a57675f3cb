"""Accounts side by side: when a refusal ends all of them, and when they may read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from bridge.accounts import BackpressureGate, run_all
from bridge.errors import RefusedError
from bridge.pusher.connection import Statistics


class _Session:
    """A session that follows steps.

    Each step is a time in seconds and whether the session is refused for good after
    it, which makes `run` raise; after the last one it stays subscribed.
    """

    def __init__(self, client_id: str, *steps: tuple[float, bool]) -> None:
        self.statistics = Statistics(client_id)
        self.channel = SimpleNamespace(is_refused=False)
        self.steps = list(steps)
        self.live = 0

    async def run(self) -> NoReturn:
        self.live += 1
        try:
            while self.steps:
                seconds, refused = self.steps.pop(0)
                await trio.sleep(seconds)
                self.channel.is_refused = refused
                if refused:
                    raise RefusedError(f"{self.statistics.client_id} no", code=4009)
            await trio.sleep_forever()
        finally:
            self.live -= 1
        raise AssertionError


@pytest.mark.parametrize(
    ("sessions", "message", "after"),
    [
        ([_Session("a", (3, True))], "a no", 3),
        # The last one to be refused ends it.
        (
            [
                _Session(name, (seconds, True), (1000, True))
                for seconds, name in enumerate("abcde")
            ],
            "dryAPI refuses all 5 accounts. a: a no; b: b no; c: c no; and 2 more",
            4,
        ),
        # An account that came back counts its time from the beginning.
        (
            [
                _Session("a", (1, True), (1, False), (100, True)),
                _Session("b", (10, True), (200, True)),
            ],
            "dryAPI refuses all 2 accounts. a: a no; b: b no",
            102,
        ),
        # One that is refused is tried again while another one works.
        (
            [
                _Session("a", (1, True), (30, True), (30, True), (30, False)),
                _Session("b", (1, False)),
            ],
            None,
            1000,
        ),
    ],
)
async def test_all_accounts_end_when_every_one_is_refused(
    sessions: list[_Session],
    message: str | None,
    after: float,
    autojump_clock: MockClock,
) -> None:
    """One error names the first three, with the first one's code."""
    error = None
    with trio.move_on_after(1000):
        try:
            await run_all(sessions)  # type: ignore[arg-type]
        except RefusedError as refusal:
            error = refusal
            assert error.code == 4009
    assert (error and str(error), trio.current_time()) == (message, after)
    assert not any(session.live for session in sessions)
    if error is None:
        assert not any(one.steps or one.channel.is_refused for one in sessions)


class _Crowd:
    """An outbox's buffer, and the gate that looks at it."""

    def __init__(self) -> None:
        self.crowded = True
        self.gate = BackpressureGate(lambda: self.crowded)

    async def waited(self) -> float:
        """Wait once, and give the seconds."""
        since = trio.current_time()
        await self.gate.wait()
        return trio.current_time() - since

    async def relax_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.crowded = False


async def test_a_session_waits_until_the_outbox_has_room(
    autojump_clock: MockClock,
) -> None:
    """Without a crowd it costs nothing; what lasts is waited for 4 s at most."""
    crowd = _Crowd()
    for _ in range(2):
        crowd.crowded = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.relax_after, 0.5)
            assert 0.5 <= await crowd.waited() < 0.6
    assert await crowd.waited() == 0
    crowd.crowded = True
    assert 3.9 < await crowd.waited() < 4.1


@pytest.mark.parametrize("relaxes", [True, False])
async def test_sessions_wait_one_after_the_other_and_none_for_long(
    autojump_clock: MockClock, *, relaxes: bool
) -> None:
    """Each fills the room that was made; a pong behind is read in time all the same."""
    crowd = _Crowd()
    waits: list[float] = []

    async def session() -> None:
        for _ in range(2):
            waits.append(await crowd.waited())
            crowd.crowded = True

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(session)
        while relaxes and len(waits) < 200:
            await crowd.relax_after(1)
    assert len(waits) == 200
    assert max(waits) < 4.1
    if relaxes:
        assert [round(wait) for wait in sorted(waits[:3])] == [1, 2, 3]
    else:
        assert 7.9 < trio.current_time() < 8.2
