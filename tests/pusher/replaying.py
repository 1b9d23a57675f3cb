"""Plays the server's side of a recording to a real session, under a mock clock."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.kit.scripted import CHANNEL, Peer, Script, end_at_once, spoken, staged


_Line = dict[str, Any]


@dataclass
class Replayed:
    """What a session did: dials and subscriptions, and the events' statuses."""

    dials: int = 0
    subscriptions: int = 0
    statuses: list[str] = field(default_factory=list)


def lines_of(path: Path) -> list[_Line]:
    """Read the lines of the last run."""
    text = path.read_text("ascii")
    last = text[text.rindex('{"at":0.0,"kind":"started"') :]
    return [json.loads(line) for line in last.splitlines()]


def replayed(path: Path) -> Replayed:
    """Run a session against the last run of a recording, with its first account."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_replay, lines_of(path), clock=clock)


async def _replay(lines: list[_Line]) -> Replayed:
    client = next(line["client"] for line in lines if "client" in line)
    connections: dict[int, list[_Line]] = {}
    for line in lines:
        if line.get("client") == client:
            connections.setdefault(line["connection"], []).append(line)
    result = Replayed()
    scripts = [_script(each, result) for each in connections.values()]
    finished = trio.Event()

    async def afterwards(_: trio.abc.Stream) -> None:
        finished.set()
        await trio.sleep_forever()

    async with staged(*scripts, afterwards) as (stage, _):
        # The last connection may have outlived the recording.
        with trio.move_on_after(lines[-1]["at"] + 600):
            await finished.wait()
        result.dials = min(len(stage.server.dials), len(scripts))
        for event in stage.deliveries.events:
            assert isinstance(event.data, str)
            result.statuses.append(json.loads(event.data)["status"])
    return result


def _script(lines: list[_Line], result: Replayed) -> Script:
    is_open = any(line["kind"] == "opened" for line in lines)
    return spoken(partial(_play, lines, result)) if is_open else end_at_once


async def _play(lines: list[_Line], result: Replayed, peer: Peer) -> None:
    """Send what was sent, when it was sent; return where the server ended it."""
    offset = trio.current_time() - lines[0]["at"]
    is_subscribed = False
    async with trio.open_nursery() as nursery:
        for line in lines:
            if line["kind"] == "ended":
                await trio.sleep_until(line["at"] + offset)
                if line["code"] is not None:
                    await peer.close(line["code"])
                nursery.cancel_scope.cancel()
                return
            event = line["frame"].get("event") if "frame" in line else None
            if line["kind"] != "received" or event in {None, "pusher:pong"}:
                continue
            if event == "pusher:connection_established":
                await peer.establish()
            elif event != "pusher_internal:subscription_succeeded":
                await trio.sleep_until(line["at"] + offset)
                await peer.socket.send_message(_text_of(line["frame"]))
            elif not is_subscribed:  # later ones acknowledge a repeat
                is_subscribed = True
                await peer.subscribe()
                result.subscriptions += 1
                nursery.start_soon(peer.answer_pings)
                offset = trio.current_time() - line["at"]
        await trio.sleep_forever()


def _text_of(frame: _Line) -> str:
    """Write a frame with masks at their full length, for the scripted channel."""
    text = re.sub(r"x\*([0-9]+)", lambda run: "x" * int(run[1]), json.dumps(frame))
    return re.sub(r"private-client\.[0-9a-f-]{36}", CHANNEL, text)
