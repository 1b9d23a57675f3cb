"""
Scenes against a real soketi that are recorded, each with what the session made of it.

`python -m tests.pusher.recording_scenes` records them anew into the folder
`recordings`, with their summaries beside them as what a replay must give. Everything
private in them holds a canary.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bridge.errors import AuthorizationError
from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.recording import Recorder
from bridge.pusher.session import Session
from bridge.pusher.websocket import connect_websocket
from bridge.settings import PusherSettings
from tests.kit.soketi import SoketiServer, start_soketi
from tests.pusher.canary import CANARY
from tests.pusher.ear import Ear
from tests.pusher.replaying import Replayed


RECORDINGS = Path(__file__).with_name("recordings")

_DEADLINE_SECONDS = 20.0

# What a real dryAPI could send, and what it never should: one payload a line.
_ODD_PAYLOADS = r"""
{"request_id":"CANARY-1","status":"in_progress","preview":"data:CANARY/CANARY", "result_url":null,"progress":"45.50"}
{"request_id":"CANARY-1","status":"in_progress","progress":46.5}
{"request_id":"CANARY-1","request_id":"CANARY-1","status":"done","result_url":"https:\/\/CANARY.test\/a.png?sig=CANARY"}
{"request_id":"CANARY-2","status":"processing","seed":100000000,"CANARY":1}
{"request_id":"CANARY-3","status":"CANARY"}
{"request_id":"CANARY-4","status":"error","error_message":"CANARY\ud83d"}
{"request_id":"CANARY-5","status":"done","progress":"CANARY"}
{"request_id":"CANARY-6","status":"do
"{\"request_id\":\"CANARY-7\",\"status\":\"processing\"}"
{'request_id': 'CANARY-8'}
["CANARY"]
CANARY
"""  # noqa: E501


class _Endpoint:
    """Signs as dryAPI's endpoint would, after the failures that a scene wants."""

    def __init__(self, soketi: SoketiServer, *failures: AuthorizationError) -> None:
        self._soketi = soketi
        self._failures = list(failures)

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Sign, unless a failure is left."""
        await trio.lowlevel.checkpoint()
        if self._failures:
            raise self._failures.pop(0)
        return self._soketi.sign_channel(socket_id, channel)


class Scene:
    """
    A session under way, recorded.

    Attributes:
        soketi: What it is connected to.
        channel: The account's channel.
        lived: What it makes of that, to be compared with a replay.
    """

    def __init__(
        self,
        soketi: SoketiServer,
        path: Path,
        *failures: AuthorizationError,
        **settings: Any,
    ) -> None:
        self.soketi = soketi
        client_id = f"{CANARY}-{uuid.uuid4().hex}"
        self.channel = f"private-client.{client_id}"
        known = PusherSettings(
            **{"url": soketi.url, "app_key": soketi.app.key, **settings}
        )
        self.recorder = Recorder(path, known)
        connect = partial(connect_websocket, max_message_bytes=known.max_message_bytes)
        events: list[ChannelEvent] = []
        ear = Ear()

        def deliver(run: Sequence[ChannelEvent], _: int) -> None:
            events.extend(run)

        self.session = Session(
            client_id,
            known,
            self.recorder.authorizer(_Endpoint(soketi, *failures), client_id),
            deliver,
            listener=ear,
            connect=self.recorder.connect(connect, client_id),
        )
        self.lived = Replayed(events, self.session.statistics, ear)

    async def publish(self, *payloads: str) -> None:
        """Publish payloads for the account, and wait until they have come."""
        wanted = len(self.lived.events) + len(payloads)
        async with self.soketi.publisher() as publisher:
            for payload in payloads:
                await publisher.publish(self.channel, JOB_EVENT, payload)
        await self.until(lambda: len(self.lived.events) == wanted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the server brings about."""
        with trio.fail_after(_DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - a counter has no event
                await trio.sleep(0.01)

    async def until_subscribed(self) -> None:
        """Wait for a subscription."""
        await self.until(lambda: self.session.statistics.subscribed)


@asynccontextmanager
async def _recorded(scene: Scene) -> AsyncIterator[None]:
    """Run a scene's session and its recorder; both have stopped at the end."""
    async with trio.open_nursery() as recording:
        recording.start_soon(trio.to_thread.run_sync, scene.recorder.run)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.session.run)
                await scene.until_subscribed()
                yield
                nursery.cancel_scope.cancel()
        finally:
            scene.recorder.stop()


def _job(number: int, status: str = "in_progress", progress: str = "50.00") -> str:
    return json.dumps(
        {
            "request_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{CANARY}-{number}")),
            "status": status,
            "preview": f"data:image/jpeg;base64,{CANARY * 50}",
            "result_url": None,
            "progress": progress,
        }
    )


async def restarted(soketi: SoketiServer, path: Path) -> Replayed:
    """Soketi ends by SIGTERM, refuses with 4200 for its grace, and starts again."""
    scene = Scene(soketi, path)
    async with _recorded(scene):
        await scene.publish(_job(1, "processing"), _job(2), _job(1))
        await trio.to_thread.run_sync(soketi.stop)
        await trio.to_thread.run_sync(soketi.start)
        await scene.until_subscribed()
        await scene.publish(_job(2), _job(1, "done", "100.00"))
    return scene.lived


async def killed(soketi: SoketiServer, path: Path) -> Replayed:
    """Soketi ends by SIGKILL and starts again; the endpoint is out of order before."""
    failure = AuthorizationError(
        f"the answer of https://{CANARY}.test (HTTP 503) is no authorisation",
        status=503,
        retry_after_seconds=0.3,
    )
    scene = Scene(soketi, path, failure)
    async with _recorded(scene):
        await scene.publish(_job(1))
        await trio.to_thread.run_sync(soketi.kill)
        await trio.to_thread.run_sync(soketi.start)
        await scene.until_subscribed()
        await scene.publish(_job(1, "done"))
    return scene.lived


async def frozen(soketi: SoketiServer, path: Path) -> Replayed:
    """Soketi stands still: no pong, no answer to the next attempt; then it goes on."""
    scene = Scene(
        soketi,
        path,
        activity_timeout_seconds=0.5,
        pong_timeout_seconds=0.5,
        connect_timeout_seconds=0.5,
    )
    async with _recorded(scene):
        await scene.publish(_job(1))
        await trio.sleep(0.7)  # one pong
        soketi.pause()
        await scene.until(lambda: sum(scene.session.statistics.connects.values()) == 2)
        soketi.resume()
        await scene.until_subscribed()
        await scene.publish(_job(1, "done"))
    return scene.lived


async def odd_payloads(soketi: SoketiServer, path: Path) -> Replayed:
    """Payloads that conform, that are repaired and that are dead letters."""
    scene = Scene(soketi, path)
    async with _recorded(scene):
        await scene.publish(*_ODD_PAYLOADS.replace("CANARY", CANARY).split("\n")[1:-1])
        await soketi.publish(scene.channel, f"{CANARY}.event", "{}")
        await scene.until(lambda: scene.session.statistics.other_events == 1)
    return scene.lived


SCENES: dict[str, Callable[[SoketiServer, Path], Awaitable[Replayed]]] = {
    scene.__name__: scene for scene in (restarted, killed, frozen, odd_payloads)
}


async def _record(*names: str) -> None:
    RECORDINGS.mkdir(exist_ok=True)
    async with start_soketi() as soketi:
        for name in names or SCENES:
            path = RECORDINGS / f"{name}.jsonl"
            path.unlink(missing_ok=True)
            lived = await SCENES[name](soketi, path)
            path.with_suffix(".expected.json").write_text(
                json.dumps(lived.summary(), indent=2) + "\n"
            )


if __name__ == "__main__":
    trio.run(_record, *sys.argv[1:])
