"""Without room the least important events are given up, and a gap tells of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import jsonschema

from tests.e2e.gap_records import bounds_of
from tests.e2e.jobs import Load, job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import by_key, check_dense
from tests.kit.bridge_process import Metrics
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record


_SCHEMAS = Path(__file__).parents[2] / "schemas"

# Full after some dozens of events with previews.
_OUTBOX_BYTES = 1_000_000
_BUFFER_BYTES = 400_000

# So many that ends of jobs are among the oldest in memory too.
_LOST = 1_500

_PREVIEW = "data:image/jpeg;base64," + "A" * 30_000


def _dropped(metrics: Metrics) -> int:
    return metrics.total("bridge_events_dropped_total")


def _check_jobs(records: Sequence[Record], load: Load) -> int:
    """Each record is an event as it came or without its preview; count the latter."""
    check_dense(records)
    told = {
        record.value
        for record in records
        if record.headers.get("bridge_normalized") == b"preview_dropped"
    }
    for key, values in by_key(records).items():
        # Without the preview no two events are alike either.
        places = {}
        for place, text in enumerate(load.accepted[key]):
            members = json.loads(text)
            places[text] = place
            places[json.dumps({**members, "preview": None}).encode()] = place
        found = [places[value] for value in values]
        assert found == sorted(set(found))
        for value, place in zip(values, found, strict=True):
            assert (value in told) == (value != load.accepted[key][place])
    return len(told)


def _check_gap(scene: Scene, opened: Record, closed: Record) -> None:
    """Both records are of one gap, of this account, and conform to the schema."""
    schema = json.loads((_SCHEMAS / "gap.schema.json").read_text(encoding="utf-8"))
    for record in (opened, closed):
        assert record.value is not None
        jsonschema.validate(json.loads(record.value), schema)
        assert record.key == scene.account.client_id.encode()
        assert record.headers["ce_type"] == b"dev.dryapi.bridge.gap"
        assert record.headers["ce_subject"] == record.key
        assert record.headers["ce_source"].endswith(record.key)
    assert opened.headers["ce_id"] != closed.headers["ce_id"]
    first, last = (json.loads(record.value or b"") for record in (opened, closed))
    assert first["gap_id"] == last["gap_id"]
    assert first["cause"] == last["cause"] == "outbox_full"
    assert first["until"] is None
    since, until = (datetime.fromisoformat(last[name]) for name in ("since", "until"))
    assert (until - since).total_seconds() == last["duration_seconds"] > 0


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
        records = await scene.records()
        lightened = _check_jobs(records, load)
        # Behind those of the first start.
        _, _, opened, closed = bounds_of(await scene.gaps(4))
        _check_gap(scene, opened, closed)

        assert now.total("bridge_events_accepted_total") == load.count
        assert len(records) == now.published == load.count - _dropped(now)
        assert lightened == now.total("bridge_previews_dropped_total") > 0
        assert now.total("bridge_gaps_total") == 2
        assert now.total("bridge_gap_open") == 0
        found = by_key(records)
        assert all(found[key][-1] == load.accepted[key][-1] for key in load.accepted)
    assert await bridge.stop() == 0
    _, told = bridge.logged("gap.closed")
    assert told["records_lost"] == _dropped(now)
    (over,) = bridge.logged("buffer.has_room")
    assert over["dropped"] == _dropped(now)
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["read"] == stopped["published"] + stopped["dropped"]
