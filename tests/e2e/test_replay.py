"""Dead letters on their way back, beside the bridge that wrote them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import trio

from tests.e2e.jobs import JOB_EVENT, job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.publisher import Event
from tests.kit.reader import Record


_DEADLINE_SECONDS = 40.0

_KIB = 1024


def _large(number: int) -> tuple[str, list[str]]:
    """Make a job whose events all have more than 1 KiB."""
    request_id, texts = job(1)
    padding = f"{number}" * _KIB
    return request_id, [
        json.dumps(json.loads(text) | {"padding": padding}) for text in texts
    ]


async def _command(scene: Scene, *line: str) -> tuple[int, str]:
    """Run a command for the scene's topic; give its exit code and what it wrote."""
    servers = scene.topic.bootstrap_servers
    where = ["--topic", scene.topic.name, "--bootstrap-servers", servers]
    with trio.fail_after(_DEADLINE_SECONDS):
        done = await trio.run_process(
            [sys.executable, "-m", "bridge", *line, *where],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            env={k: v for k, v in os.environ.items() if not k.startswith("BRIDGE_")},
        )
    return done.returncode, done.stdout.decode()


async def test_what_one_bridge_refused_another_version_carries_beside_it(
    scene: Scene, dryapi: str
) -> None:
    """
    Each event is on the topic once, and the topic is whole for both writers.

    The bridge takes events up to 1 KiB, which stands for a version that can't read
    them; the replay has the usual limit.
    """
    bridge = scene.bridge(dryapi, limits_event_bytes=_KIB)
    await bridge.start_and_wait()
    large = [_large(number) for number in range(5)]
    replay = ["--outbox-dir", str(bridge.outbox), "dlq", "replay"]
    async with scene.load(steady=True) as load, scene.soketi.publisher() as publisher:
        for _, texts in large:
            for text in texts:
                event = Event(scene.account.channel, JOB_EVENT, text)
                await publisher.publish_batch([event])
        letters = sum(len(texts) for _, texts in large)
        await scene.dead_letters(letters)
        code, output = await _command(scene, *replay)
        assert code == 0, output
        assert f"{letters} of {letters} dead letters" in output
        code, output = await _command(scene, *replay)
        assert code == 0, output
        assert f"0 of {letters} dead letters" in output
        await load.stop()
        await bridge.wait_metrics(lambda now: now.published == load.count + letters)
        records = await scene.records(load.count + letters)
        accepted = load.accepted
    expected = {request_id: [t.encode() for t in texts] for request_id, texts in large}
    check_exactly(records, accepted | expected)
    replayed = [record for record in records if _is_replayed(record)]
    assert len(replayed) == letters
    outboxes = {record.headers["bridge_outbox"] for record in replayed}
    assert len(outboxes) == 1
    assert outboxes.isdisjoint(
        record.headers["bridge_outbox"]
        for record in records
        if not _is_replayed(record)
    )
    for directory in (bridge.outbox, bridge.outbox / "replay"):
        code, output = await _command(scene, "verify", "--outbox-dir", str(directory))
        assert code == 0, output
        assert "Clean" in output
    assert await bridge.stop() == 0


def _is_replayed(record: Record) -> bool:
    return record.headers.get("bridge_anomaly") == b"replayed"
