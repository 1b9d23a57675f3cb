"""Nothing that the bridge writes holds a secret, whatever happens to it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conftest import Topic
from tests.e2e.auth_endpoint import AuthEndpoint, AuthRequest, Reply
from tests.e2e.jobs import JOB_EVENT, job
from tests.e2e.line import Line, open_line
from tests.e2e.scene import Scene
from tests.e2e.test_previews import _jpeg
from tests.kafka.relay.orders import alter
from tests.kit.bridge_process import BridgeProcess
from tests.kit.broker import KafkaBroker
from tests.kit.publisher import Event
from tests.kit.secure_kafka import SecureKafka


# Put in front of the bridge's own modules, both make a bridge that isn't ours.
_WITHOUT_REDACTION = """\
import bridge.operations.redaction as redaction
redaction.redact = lambda text: text
"""
_WITH_A_DEFECT = """\
import os
from bridge.intake import Intake
def accept(self, events, received_at_us):
    token = os.environ["BRIDGE_API_TOKEN"]
    raise ValueError(f"{token} {[event.data for event in events]}")
Intake.accept = accept
"""

_PAGES = ("/metrics", "/livez", "/livez?verbose", "/readyz", "/readyz?verbose")


@dataclass
class Canaries:
    """
    What must turn up nowhere, and all that was said.

    Attributes:
        token: The account's.
        query: In the query of a result URL.
        pixels: In an image.
        payload: In parts of events that nobody knows.
        signatures: What the auth endpoint has given.
    """

    token: str
    query: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    pixels: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    payload: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    signatures: list[str] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)

    @property
    def preview(self) -> str:
        """A data URI of an image, whose base64 nothing else has."""
        image = _jpeg(40) + self.pixels * 4
        return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"

    @property
    def url(self) -> str:
        """A result URL."""
        return f"https://storage.dryapi.dev/results/1.png?signature={self.query}"

    async def hear(self, bridge: BridgeProcess) -> None:
        """Note what all pages say now."""
        for page in _PAGES:
            answer = bridge._get(page)
            assert answer is not None
            self._said[f"{page} {len(self._said)}"] = answer[1]

    def hear_end(self, bridge: BridgeProcess) -> None:
        """Note what a process that has ended has written, but for its outbox."""
        folder = bridge.outbox.parent
        for file in folder.rglob("*"):
            if file.is_file() and bridge.outbox not in file.parents:
                self._said[str(file)] = file.read_text(errors="replace")
        assert str(folder / "log") in self._said

    def found(self) -> set[str]:
        """Name what turned up, anywhere, in whatever form."""
        plain = {
            "token": [self.token],
            "signature": self.signatures,
            "query": [self.query],
            # Base64 takes three bytes at a time: any 40 characters inside will do.
            "preview": [self.preview[-60:-20], self.pixels.hex(), repr(self.pixels)],
            "payload": [self.payload],
        }
        return {
            name
            for name, values in plain.items()
            for value in values
            for text in self._said.values()
            if value in text
        }


@pytest.fixture
def canaries(scene: Scene) -> Canaries:
    """The scene's."""
    return Canaries(scene.account.token)


def _sign(
    scene: Scene, canaries: Canaries, request: AuthRequest, *, is_right: bool = True
) -> Reply:
    auth = scene.soketi.sign_channel(request.socket_id, request.channel)
    if not is_right:
        auth = f"{auth[:-64]}{secrets.token_hex(32)}"
    canaries.signatures.append(auth[-64:])
    return Reply(200, json.dumps({"auth": auth}).encode())


@pytest.fixture
def auth(scene: Scene, canaries: Canaries) -> Iterator[AuthEndpoint]:
    """A dryAPI that repeats the token in an error, and signs wrongly before rightly."""

    def answer(request: AuthRequest) -> Reply:
        asked = len(endpoint.requests)
        if asked == 1:
            # Its type stands in the error, its body doesn't.
            echo = {"Content-Type": f"text/{request.authorization}"}
            return Reply(200, request.authorization.encode(), echo)
        return _sign(scene, canaries, request, is_right=asked > 2)

    endpoint = AuthEndpoint(answer)
    with endpoint.serving():
        yield endpoint


@pytest.fixture
async def line(scene: Scene) -> AsyncIterator[Line]:
    """The way to soketi, on which it can be made to say anything."""
    async with open_line(scene.soketi) as opened:
        yield opened


@pytest.fixture
def preview_topic(kafka: KafkaBroker, topic: Topic) -> Iterator[str]:
    """The topic of previews beside the test's own topic."""
    name = f"{topic.name}.previews"
    kafka.create_topic(name, 1)
    yield name
    kafka.delete_topics(name)


def _events(canaries: Canaries) -> Iterator[str]:
    """Give events of every kind, each with something that must not be told."""
    for number in range(20):
        request_id, texts = job(2, [canaries.preview])
        for text in texts:
            fields: dict[str, Any] = json.loads(text)
            if fields["status"] == "done":
                fields["result_url"] = canaries.url
            yield json.dumps({**fields, "more": canaries.payload})
        bad: list[Mapping[str, object]] = [
            # After the end.
            {"request_id": request_id, "status": "in_progress", "progress": "1.00"},
            {"status": canaries.payload, "request_id": f"a{number}"},
            {"status": "done", "request_id": 7, "result_url": canaries.url},
            {
                "status": "done",
                "request_id": f"b{number}",
                "progress": canaries.payload,
            },
            {
                "status": "done",
                "request_id": f"c{number}",
                "preview": [canaries.preview],
            },
            {
                "status": "in_progress",
                "request_id": f"d{number}",
                "preview": f"data:image/png;base64,{canaries.preview[-60:]}",
            },
        ]
        yield from (json.dumps({"preview": None} | dict(one)) for one in bad)
        yield f'{{"request_id": "{canaries.payload}", "result_url": "{canaries.url}'


async def _flood(scene: Scene, line: Line, canaries: Canaries) -> int:
    """Have everything come that may come, and tell how many events that is."""
    texts = list(_events(canaries))
    line.say(_complaint(canaries))
    async with scene.soketi.publisher() as publisher:
        for first in range(0, len(texts), 10):
            await publisher.publish_batch(
                [
                    Event(scene.account.channel, JOB_EVENT, text)
                    for text in texts[first : first + 10]
                ]
            )
    return len(texts)


def _complaint(canaries: Canaries) -> str:
    """Repeat a signature, as Pusher's own server does, and what none should repeat."""
    preview = canaries.preview
    words = (
        f"but got {canaries.signatures[-1]} {preview[:23]}{preview[-60:]}"
        f" https://a/?{canaries.query}"
    )
    fields = {"event": "pusher:error", "data": {"code": 4302, "message": words}}
    return json.dumps(fields)


def _in_front(folder: Path, code: str) -> list[str]:
    """Have a process run some code before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return ["env", f"PYTHONPATH={folder}"]


async def test_no_road_leads_a_secret_out(  # noqa: PLR0917 - fixtures
    scene: Scene,
    line: Line,
    auth: AuthEndpoint,
    canaries: Canaries,
    topic: Topic,
    preview_topic: str,
) -> None:
    """Whatever happens, neither log nor pages hold one, at the most talkative level."""
    bridge = scene.bridge(
        auth.url, pusher_url=line.url, log_level="debug", previews="topic"
    )
    bridge.start()
    await bridge.wait_answer("/readyz", lambda now: now.status == 503)
    await canaries.hear(bridge)
    await bridge.wait_ready()
    # It was looked at: the broker refuses previews from now on.
    await trio.to_thread.run_sync(
        partial(alter, topic, preview_topic, max_message_bytes="600")
    )
    count = await _flood(scene, line, canaries)
    metrics = await bridge.wait_metrics(
        lambda now: now.read == count and now.committed >= count and not now.waiting
    )
    for reason in ("refused_by_broker", "after_terminal", "not_json", "invalid_field"):
        assert metrics.total("bridge_dlq_records_total", reason=reason) > 0
    await canaries.hear(bridge)
    assert await bridge.stop() == 0
    for event in ("session.server_error", "authorization.failed", "record.refused"):
        assert bridge.logged(event)
    canaries.hear_end(bridge)
    assert canaries.found() == set()


async def test_a_leaky_bridge_is_found_out(
    scene: Scene, line: Line, auth: AuthEndpoint, canaries: Canaries, tmp_path: Path
) -> None:
    """Without its last line of defence the same roads lead all of them out."""
    bridge = scene.bridge(
        auth.url,
        pusher_url=line.url,
        wrapper=_in_front(tmp_path / "leak", _WITHOUT_REDACTION),
    )
    await bridge.start_and_wait()
    line.say(_complaint(canaries))
    async with scene.load() as load:
        await load.run_together([job(1)])
    await bridge.wait_logged("session.server_error")
    bridge.kill()
    canaries.hear_end(bridge)
    assert canaries.found() == {"token", "signature", "query", "preview"}
    # The scene would look for the token in it, too.
    scene._made.remove(bridge)


async def test_a_refusal_and_a_defect_lead_no_secret_out(
    scene: Scene, line: Line, auth: AuthEndpoint, canaries: Canaries, tmp_path: Path
) -> None:
    """Neither the last sentence nor a traceback repeats what it was made of."""
    auth.answer = partial(_sign, scene, canaries)
    bridge = scene.bridge(
        auth.url,
        pusher_url=line.url,
        wrapper=_in_front(tmp_path / "defect", _WITH_A_DEFECT),
        log_level="debug",
    )
    await bridge.start_and_wait()
    await _flood(scene, line, canaries)
    assert await bridge.wait_exit() == 1
    assert "Traceback" in bridge.all_output
    assert "ValueError: [hidden] " in bridge.all_output
    canaries.hear_end(bridge)
    # Of a defect's message only what is a secret, or looks like one, is hidden.
    assert canaries.found() <= {"payload"}

    auth.answer = lambda request: Reply(401, request.authorization.encode())
    refused = scene.bridge(auth.url, log_level="debug", log_format="console")
    refused.start()
    assert "BRIDGE_API_TOKEN" in (await _last_sentence(refused, 3))
    canaries.hear_end(refused)
    assert canaries.found() <= {"payload"}
    # The scene takes no traceback.
    scene._made.remove(bridge)


async def _last_sentence(bridge: BridgeProcess, code: int) -> str:
    assert await bridge.wait_exit() == code, bridge.all_output
    return bridge.sentences[-1]


async def test_a_wrong_password_leads_nowhere(
    scene: Scene, dryapi: str, canaries: Canaries, secure: SecureKafka
) -> None:
    """Kafka's refusal of a password shows it neither to people nor to machines."""
    canaries.token = "canary-that-is-wrong"
    settings: dict[str, Any] = {
        f"kafka_{name}": value for name, value in secure.settings("SCRAM").items()
    }
    settings["kafka_sasl_password"] = canaries.token
    bridge = scene.bridge(dryapi, **settings, log_level="debug", log_format="console")
    bridge.start()
    await bridge.wait_answer("/readyz", lambda now: now.status == 503)
    await canaries.hear(bridge)
    assert "BRIDGE_KAFKA_SASL_PASSWORD" in (await _last_sentence(bridge, 4))
    canaries.hear_end(bridge)
    assert canaries.found() == set()
