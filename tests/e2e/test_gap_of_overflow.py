"""Without room the least important events are dropped, and a gap reports it."""

from __future__ import annotations

from collections import Counter

from tests.e2e.jobs import job
from tests.e2e.scene import Scene, without_preview
from tests.kit.bridge_process import Metrics
from tests.kit.kafka import KafkaServer


# Full after some hundred events with previews. What the buffer holds when there is no
# more room for events fits into what is left for the ends of jobs.
_OUTBOX_BYTES = 28_000_000
_BUFFER_BYTES = 1_000_000

# So many that ends of jobs are among the oldest in memory too.
_LOST = 1_500

_PREVIEW = "data:image/jpeg;base64," + "A" * 60_000


def _dropped(metrics: Metrics) -> int:
    return metrics.total("bridge_events_dropped_total")


async def test_what_has_no_room_is_a_gap_and_the_least_important_goes_first(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """Previews go, then events, no job's end; one gap opens and closes; all adds up."""
    bridge = scene.bridge(
        dryapi, outbox_max_bytes=_OUTBOX_BYTES, outbox_buffer_bytes=_BUFFER_BYTES
    )
    await bridge.start_and_wait()
    async with scene.load(bridge) as load:
        own_kafka.pause()
        for _ in range(5):
            await load.run_together([job(20, [_PREVIEW] * 10) for _ in range(10)])
        while _dropped(await bridge.metrics()) < _LOST:
            await load.run_together([job(40) for _ in range(10)])
        full = await bridge.wait_metrics(lambda now: now.read == load.count)
        assert full.total("bridge_gap_open") == 1
        assert full.total("bridge_gaps_total", cause="outbox_full") == 1

        own_kafka.resume()
        await bridge.wait_logged("outbox.has_room")
        await load.run_together([job(3) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.total("bridge_gap_open") == 0)
    now = await bridge.wait_metrics(
        lambda now: now.read == load.count == now.published + _dropped(now)
    )
    # Acknowledgements reach the disk a little later than the count.
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    assert now.total("bridge_events_accepted_total") == load.count
    assert now.total("bridge_gaps_total") == 2
    ending = await scene.end(
        label=without_preview,
        missing=_dropped(now),
        gaps=["first_start", "outbox_full"],
        marks={"preview_dropped"},
    )
    assert ending.gaps[-1].until != ending.gaps[-1].since
    _, closed = bridge.logged("gap.closed")
    assert closed["records_lost"] == _dropped(now)
    (over,) = bridge.logged("buffer.has_room")
    assert over["dropped"] == _dropped(now)
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["read"] == stopped["published"] + stopped["dropped"]

    originals = {value for values in load.accepted.values() for value in values}
    kinds = Counter(
        (
            record.headers.get("bridge_normalized") == b"preview_dropped",
            record.value in originals,
        )
        for record in ending.jobs
    )
    # A record is as it came, or says that it has lost its preview.
    assert kinds.keys() == {(True, False), (False, True)}
    assert kinds[True, False] == now.total("bridge_previews_dropped_total")
    last = {record.key: record.value for record in ending.jobs}
    for key, values in load.accepted.items():
        assert last[key.encode()] == values[-1]
