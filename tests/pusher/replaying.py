"""
Plays the server's side of a recording to a real session, under a mock clock.

Each dial gets the next recorded connection: a server that sends what it sent, as long
after the opening, and ends as it was ended. Greetings, pongs and acknowledgements are
the scripted server's own. docs/recording.md describes the lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from bridge.errors import AuthorizationError
from tests.kit.scripted import (
    CHANNEL,
    FakeAuthorizer,
    Peer,
    Script,
    end_at_once,
    spoken,
    staged,
)


__all__ = ["Replayed", "lines_of", "replayed"]

_Line = dict[str, Any]


@dataclass
class Replayed:
    """What a session did: dials and subscriptions, and the events' statuses."""

    dials: int = 0
    subscriptions: int = 0
    statuses: list[str | None] = field(default_factory=list)


def lines_of(path: Path) -> list[_Line]:
    """Read the lines of the last run; a killed process leaves half of one."""
    lines: list[_Line] = []
    for text in path.read_text("ascii").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        lines = [line] if line["kind"] == "started" else [*lines, line]
    return lines


def replayed(path: Path) -> Replayed:
    """Run a session against the last run of a recording, with its first account."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_replay, lines_of(path), clock=clock)


async def _replay(lines: list[_Line]) -> Replayed:
    client = next(line["client"] for line in lines if "client" in line)
    lines = [line for line in lines if line.get("client") == client]
    numbers = dict.fromkeys(line["connection"] for line in lines)
    result = Replayed()
    finished = trio.Event()
    scripts = [
        _script([line for line in lines if line["connection"] == number], result)
        for number in numbers
    ]

    async def afterwards(_: trio.abc.Stream) -> None:
        finished.set()
        await trio.sleep_forever()

    async with staged(
        *scripts, afterwards, authorizer=_Authorizer(_failures(lines))
    ) as (stage, _):
        # The last connection may have outlived the recording.
        with trio.move_on_after(lines[-1]["at"] + 600):
            await finished.wait()
        result.dials = min(len(stage.server.dials), len(scripts))
        for event in stage.deliveries.events:
            data = json.loads(event.data) if isinstance(event.data, str) else event.data
            result.statuses.append(data["status"])
    return result


class _Authorizer(FakeAuthorizer):
    """Signs or fails as often, and in the order, as was recorded."""

    def __init__(self, outcomes: Sequence[Exception | None]) -> None:
        super().__init__()
        self._outcomes = list(outcomes)

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Give a signature unless the next recorded outcome is a failure."""
        failure = self._outcomes.pop(0) if self._outcomes else None
        if failure is not None:
            raise failure
        return await super().authorize(socket_id, channel)


def _failures(lines: list[_Line]) -> list[Exception | None]:
    names = ("status", "retry_after_seconds", "terminal")
    return [
        None
        if line["kind"] == "authorized"
        else AuthorizationError("recorded", **{name: line[name] for name in names})
        for line in lines
        if line["kind"] in {"authorized", "not_authorized"}
    ]


def _script(lines: list[_Line], result: Replayed) -> Script:
    if any(line["kind"] == "opened" for line in lines):
        return spoken(partial(_play, lines, result))
    return end_at_once


async def _play(lines: list[_Line], result: Replayed, peer: Peer) -> None:
    """Send what was sent, when it was sent; return where the server ended it."""
    opened_at = next(line["at"] for line in lines if line["kind"] == "opened")
    offset = trio.current_time() - opened_at
    is_subscribed = False
    async with trio.open_nursery() as nursery:
        for line in lines:
            if line["kind"] == "ended":
                await trio.sleep_until(line["at"] + offset)
                if line["code"] is not None:
                    await peer.close(line["code"])
                nursery.cancel_scope.cancel()
                return
            if line["kind"] != "received" or "frame" not in line:
                continue
            event = line["frame"].get("event")
            if event == "pusher:connection_established":
                await peer.establish()
            elif event == "pusher_internal:subscription_succeeded":
                # Later ones answer a repeat, which reading acknowledges.
                if not is_subscribed:
                    is_subscribed = True
                    await peer.subscribe()
                    result.subscriptions += 1
                    nursery.start_soon(peer.answer_pings)
                    offset = trio.current_time() - line["at"]
            elif event != "pusher:pong":
                await trio.sleep_until(line["at"] + offset)
                await peer.socket.send_message(_text_of(line["frame"]))
        await trio.sleep_forever()


def _text_of(frame: _Line) -> str:
    """Write a frame with masks at their full length, for the scripted channel."""
    text = re.sub(r"x\*([0-9]+)", lambda run: "x" * int(run[1]), json.dumps(frame))
    return re.sub(r"private-client\.[0-9a-f-]{36}", CHANNEL, text)
