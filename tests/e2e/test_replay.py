"""Dead letters on their way back, beside the bridge that wrote them."""

from __future__ import annotations

import json

import pytest

from tests.e2e.jobs import job
from tests.e2e.scene import Scene


_KIB = 1024


def _large(number: int) -> tuple[str, list[str]]:
    """Make a job whose events all have more than 1 KiB."""
    request_id, texts = job(1)
    padding = f"{number}" * _KIB
    return request_id, [
        json.dumps(json.loads(text) | {"padding": padding}) for text in texts
    ]


@pytest.mark.slow
async def test_what_one_bridge_refused_another_version_carries_beside_it(
    scene: Scene, dryapi: str
) -> None:
    """Each event is on the topic once, and the topic is whole for both writers.

    The bridge takes events up to 1 KiB, which stands for a version that can't read
    them; the replay has the usual limit.
    """
    bridge = scene.bridge(dryapi, limits_event_bytes=_KIB)
    await bridge.start_and_wait()
    large = [_large(number) for number in range(5)]
    replay = ["--outbox-dir", str(bridge.outbox), "dlq", "replay"]
    async with scene.load(steady=True) as load:
        letters = await scene.publish(text for _, texts in large for text in texts)
        await scene.dead_letters(letters)
        code, output = await scene.command(*replay)
        assert code == 0, output
        assert f"{letters} of {letters} dead letters" in output
        code, output = await scene.command(*replay)
        assert code == 0, output
        assert f"0 of {letters} dead letters" in output
        await load.stop()
        await bridge.wait_metrics(lambda now: now.published == load.count + letters)
    for directory in (bridge.outbox, bridge.outbox / "replay"):
        code, output = await scene.command("verify", "--outbox-dir", str(directory))
        assert code == 0, output
        assert "Clean" in output
    ending = await scene.end(
        origins={"socket", "replay"},
        marks={"replayed"},
        dead_letters={"too_large": letters},
        # The command counts for itself.
        all_counted=False,
    )
    replayed = [each for each in ending.jobs if "bridge_anomaly" in each.headers]
    assert sorted(each.value or b"" for each in replayed) == sorted(
        text.encode() for _, texts in large for text in texts
    )
    (outbox,) = {each.headers["bridge_outbox"] for each in replayed}
    others = [each for each in ending.jobs if "bridge_anomaly" not in each.headers]
    assert outbox not in {each.headers["bridge_outbox"] for each in others}
