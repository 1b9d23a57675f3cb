"""`bridge --record FILE`: the wire for a replay, without what must not be seen."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import trio

from tests.e2e.jobs import JOB_EVENT, job
from tests.e2e.scene import Scene
from tests.kit.dryapi import DryApi
from tests.kit.pusher_proxy import PusherProxy
from tests.pusher.replaying import replayed


_PREVIEW = "data:image/jpeg;base64," + "canarypreview" * 400

# What `jobs` puts into the address of a result.
_ADDRESS_SECRET = "signature=abc"


@pytest.mark.slow
async def test_a_recording_holds_the_wire_and_no_secret(
    scene: Scene, api: DryApi, tmp_path: Path, pusher_proxy: PusherProxy
) -> None:
    """Readable for its owner; a replay gives what the bridge read; nothing private."""
    file = tmp_path / "wire.jsonl"
    bridge = scene.bridge(
        api.url, flags=["--record", str(file)], pusher_url=pusher_proxy.url
    )
    await bridge.start_and_wait()
    pusher_proxy.cut()
    await bridge.wait_metrics(
        lambda now: now.total("bridge_connects_total", outcome="subscribed") == 2
    )
    async with scene.load() as load:
        await load.run_together([job(3, [_PREVIEW])])
    await bridge.wait_metrics(lambda now: now.published == load.count)
    await scene.end(gaps=["first_start", "disconnected"])
    signatures = [
        scene.soketi.sign_channel(each.socket_id, each.channel).partition(":")[2]
        for each in api.authorizations
    ]
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
    again = await trio.to_thread.run_sync(replayed, file)
    assert (again.dials, again.subscriptions) == (2, 2)
    assert len(again.statuses) == load.count
