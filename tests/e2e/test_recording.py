"""`bridge --record FILE`: the wire for a replay, without what must not be seen."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import trio

from tests.e2e.auth_endpoint import AuthEndpoint, AuthRequest, Reply, signing
from tests.e2e.jobs import JOB_EVENT, job
from tests.e2e.line import open_line
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.pusher.replaying import replayed


_PREVIEW = "data:image/jpeg;base64," + "canarypreview" * 400

# What `jobs` puts into the address of a result.
_ADDRESS_SECRET = "signature=abc"


async def test_a_recording_holds_the_wire_and_no_secret(
    scene: Scene, tmp_path: Path
) -> None:
    """Readable for its owner; a replay gives what the bridge read; nothing private."""
    signatures: list[str] = []
    sign = signing(scene.soketi)

    def remember(request: AuthRequest) -> Reply:
        reply = sign(request)
        signatures.append(json.loads(reply.body)["auth"].partition(":")[2])
        return reply

    file = tmp_path / "wire.jsonl"
    with AuthEndpoint(remember).serving() as auth:
        async with open_line(scene.soketi) as line, scene.load() as load:
            bridge = scene.bridge(
                auth.url, flags=["--record", str(file)], pusher_url=line.url
            )
            await bridge.start_and_wait()
            line.cut()
            await bridge.wait_metrics(
                lambda now: (
                    now.total("bridge_connects_total", outcome="subscribed") == 2
                )
            )
            await load.run_together([job(3, [_PREVIEW])])
            await bridge.wait_metrics(lambda now: now.published == load.count)
            assert await bridge.stop() == 0
            check_exactly(await scene.records(load.count), load.accepted)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text(encoding="utf-8")
    for line_of_it in text.splitlines():
        json.loads(line_of_it)
    assert len(signatures) == 2
    for secret in (
        scene.account.token,
        scene.account.client_id,
        scene.soketi.app.secret,
        "canarypreview",
        _ADDRESS_SECRET,
        *load.accepted,
        *signatures,
    ):
        assert secret not in text
    assert text.count(JOB_EVENT) == load.count
    assert text.count("pusher:connection_established") == 2
    assert text.count("pusher_internal:subscription_succeeded") == 2
    again = (await trio.to_thread.run_sync(replayed, file)).summary()
    assert again["connects"] == {"subscribed": 2}
    assert len(again["events"]) == load.count
    assert [each["cause"] for each in again["interruptions"]] == ["disconnected"]
