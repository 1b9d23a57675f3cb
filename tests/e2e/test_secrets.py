"""Nothing that the bridge writes holds a secret, whatever happens to it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conftest import Topic
from tests.e2e.jobs import data_uri, job, jpeg
from tests.e2e.scene import Scene, without_preview
from tests.kit.bridge_process import BridgeProcess
from tests.kit.broker import configure_topic
from tests.kit.dryapi import AUTH, DryApi
from tests.kit.pusher_proxy import PusherProxy


# Put in front of the bridge's own modules, both make a bridge that isn't ours.
_WITHOUT_REDACTION = """\
import bridge.text as redaction
redaction.redact = lambda text: text
"""
_WITH_A_DEFECT = """\
import os
from bridge.events.intake import Intake
def accept(self, events, received_at_us):
    token = os.environ["BRIDGE_API_TOKEN"]
    raise ValueError(f"{token} {[event.data for event in events]}")
Intake.accept = accept
"""

_REASONS = ("refused_by_broker", "after_terminal", "not_json", "invalid_field")

_PAGES = ("/metrics", "/livez", "/livez?verbose", "/readyz", "/readyz?verbose")


@dataclass
class Canaries:
    """What must turn up nowhere, and all that was said."""

    token: str
    query: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    pixels: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    payload: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    signatures: list[str] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)

    @property
    def preview(self) -> str:
        """A data URI of an image, whose base64 nothing else has."""
        return data_uri(jpeg(40) + self.pixels * 4)

    @property
    def url(self) -> str:
        """A result URL."""
        return f"https://storage.dryapi.dev/results/1.png?signature={self.query}"

    async def hear(self, bridge: BridgeProcess) -> None:
        """Note what all pages say now."""
        for page in _PAGES:
            answer = bridge.get(page)
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


def _misbehave(scene: Scene, api: DryApi, canaries: Canaries) -> None:
    """Repeat the token in an error, and sign wrongly, before it signs rightly."""
    bearer = f"Bearer {canaries.token}"
    wrong = secrets.token_hex(32)
    canaries.signatures.append(wrong)
    signed = json.dumps({"auth": f"{scene.soketi.app.key}:{wrong}"})
    # Its type is in the error, its body isn't. Behind "Bearer" a token would be hidden
    # by its looks, whether it is known or not.
    api.answer(
        AUTH,
        times=1,
        status=200,
        body=bearer,
        headers={"Content-Type": f"text/{canaries.token}"},
    )
    api.answer(AUTH, times=1, status=200, body=signed)


def _complain(
    scene: Scene, api: DryApi, proxy: PusherProxy, canaries: Canaries
) -> None:
    """Repeat what was signed, as Pusher's own server does, and what none should."""
    canaries.signatures += [
        scene.soketi.sign_channel(each.socket_id, each.channel)[-64:]
        for each in api.authorizations
    ]
    preview = canaries.preview
    words = (
        f"but got {canaries.signatures[-1]} {preview[:23]}{preview[-60:]}"
        f" https://a/?{canaries.query}"
    )
    fields = {"event": "pusher:error", "data": {"code": 4302, "message": words}}
    proxy.insert(json.dumps(fields))


def _events(canaries: Canaries) -> Iterator[str]:
    """Give events of every kind, each with something that must not be shown."""
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
        none = dict.fromkeys(("preview", "result_url", "progress"))
        yield from (json.dumps(none | dict(one)) for one in bad)
        yield f'{{"request_id": "{canaries.payload}", "result_url": "{canaries.url}'


def _in_front(folder: Path, code: str) -> list[str]:
    """Have a process run some code before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    paths = filter(None, (str(folder), os.environ.get("PYTHONPATH")))
    return ["env", f"PYTHONPATH={os.pathsep.join(paths)}"]


async def test_no_road_leads_a_secret_out(  # noqa: PLR0917 - fixtures
    scene: Scene,
    pusher_proxy: PusherProxy,
    api: DryApi,
    canaries: Canaries,
    topic: Topic,
    preview_topic: str,
) -> None:
    """Whatever happens, neither log nor pages hold one, at the most talkative level."""
    bridge = scene.bridge(
        api.url, pusher_url=pusher_proxy.url, log_level="debug", previews="topic"
    )
    _misbehave(scene, api, canaries)
    bridge.start()
    await bridge.wait_answer("/readyz", lambda now: now.status == 503)
    await canaries.hear(bridge)
    await bridge.wait_ready()
    # It was looked at: the broker refuses previews from now on.
    await trio.to_thread.run_sync(
        partial(
            configure_topic,
            topic.bootstrap_servers,
            preview_topic,
            {"max.message.bytes": "600"},
        )
    )
    _complain(scene, api, pusher_proxy, canaries)
    count = await scene.publish(_events(canaries))
    metrics = await bridge.wait_metrics(
        lambda now: now.read == count and now.committed >= count and not now.waiting
    )
    for reason in _REASONS:
        assert metrics.total("bridge_dlq_records_total", reason=reason) > 0
    await canaries.hear(bridge)
    await scene.end(
        dead_letters=dict.fromkeys(
            (*_REASONS, "unknown_status", "missing_request_id", "invalid_preview")
        ),
        label=without_preview,
        marks={"preview_moved", "preview_invalid"},
        headers={"bridge_preview_sha256"},
    )
    for event in ("session.server_error", "session.failed", "record.refused"):
        assert bridge.logged(event)
    canaries.hear_end(bridge)
    assert canaries.found() == set()


async def test_a_leaky_bridge_is_found_out(
    scene: Scene,
    pusher_proxy: PusherProxy,
    api: DryApi,
    canaries: Canaries,
    tmp_path: Path,
) -> None:
    """Without its last line of defense the same roads lead all of them out."""
    bridge = scene.bridge(
        api.url,
        pusher_url=pusher_proxy.url,
        wrapper=_in_front(tmp_path / "leak", _WITHOUT_REDACTION),
        leaks=True,
    )
    _misbehave(scene, api, canaries)
    await bridge.start_and_wait()
    _complain(scene, api, pusher_proxy, canaries)
    async with scene.load(arrives="some") as load:
        await load.run_together([job(1)])
    await bridge.wait_logged("session.server_error")
    bridge.kill()
    canaries.hear_end(bridge)
    assert canaries.found() == {"token", "signature", "query", "preview"}
    await scene.end(waiting=None)


@pytest.mark.slow
async def test_a_refusal_and_a_defect_lead_no_secret_out(
    scene: Scene,
    pusher_proxy: PusherProxy,
    api: DryApi,
    canaries: Canaries,
    tmp_path: Path,
) -> None:
    """Neither the last sentence nor a traceback repeats what it was made of."""
    bridge = scene.bridge(
        api.url,
        pusher_url=pusher_proxy.url,
        wrapper=_in_front(tmp_path / "defect", _WITH_A_DEFECT),
        log_level="debug",
        leaks=True,
    )
    await bridge.start_and_wait()
    _complain(scene, api, pusher_proxy, canaries)
    await scene.publish(_events(canaries))
    assert await bridge.wait_exit() == 1
    assert "Traceback" in bridge.all_output
    assert "ValueError: [hidden] " in bridge.all_output
    canaries.hear_end(bridge)
    # Of a defect's message only what is a secret, or looks like one, is hidden.
    assert canaries.found() <= {"payload"}

    api.answer(AUTH, status=401, body=f"Bearer {canaries.token}")
    refused = scene.bridge(api.url, log_level="debug", log_format="console")
    refused.start()
    assert await refused.wait_exit() == 3
    assert "BRIDGE_API_TOKEN" in refused.sentences[-1]
    canaries.hear_end(refused)
    assert canaries.found() <= {"payload"}
    # What the defect was fed with never got to the outbox.
    await scene.end(accepted=None, gaps=None, open_gaps=None, waiting=None)
