"""Ends and starts: signals, power loss, and two bridges with copies of one outbox."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import EARLY_CRASH, Scene
from tests.kit.bridge_process import BridgeProcess, Row
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind
from tests.kit.reader import Record


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
async def test_a_signal_under_load_drains(
    scene: Scene, dryapi: str, number: signal.Signals
) -> None:
    """It ends cleanly: an empty outbox, and a record for each event that it read."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load(steady=True, arrives="some") as load:
        seen = await bridge.wait_metrics(lambda now: now.read >= 300)
        assert await bridge.stop(number) == 0
        await load.stop()
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["waiting"] == stopped["dropped"] == 0
    ending = await scene.end()
    assert stopped["read"] == stopped["published"] == len(ending.jobs) >= seen.read
    for record in ending.jobs:
        # What was read before some moment, and no more.
        assert record.value in load.accepted[(record.key or b"").decode()]


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
async def test_sigterm_without_kafka_keeps_the_rows_for_the_next_start(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, signals: int
) -> None:
    """It ends within its deadline, at once at a second signal, and loses nothing."""
    deadline_seconds = 1.0 if signals == 1 else 60.0
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=deadline_seconds)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.stop()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count)
    began = trio.current_time()
    bridge.send(signal.SIGTERM)
    await bridge.wait_logged("service.stopping")
    if signals == 2:
        bridge.send(signal.SIGTERM)
    assert await bridge.wait_exit() == 0
    # 1 s, or nothing, and the drain timeouts of relay and outbox on a busy machine.
    assert trio.current_time() - began < 12.0
    assert len(bridge.waiting_rows()) == load.count

    own_kafka.start()
    await bridge.start_and_wait()
    await scene.finish(bridge)
    await scene.end(gaps=["first_start", "stopped"])


async def test_sigterm_under_load_while_kafka_hangs_keeps_the_rows(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """A broker that is connected and silent holds the end up no longer than allowed."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=1)
    await bridge.start_and_wait()
    async with scene.load(steady=True, arrives="some") as load:
        await bridge.wait_metrics(lambda now: now.published >= 100)
        own_kafka.pause()
        hung = await bridge.metrics()
        await bridge.wait_metrics(lambda now: now.committed >= hung.committed + 200)
        began = trio.current_time()
        assert await bridge.stop() == 0
        assert trio.current_time() - began < 12.0
        await load.stop()
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["waiting"] == len(bridge.waiting_rows()) >= 200
    rows = bridge.rows()
    assert stopped["read"] == len(rows)

    own_kafka.resume()
    await bridge.start_and_wait()
    await scene.finish(bridge)
    await scene.end(
        committed={row.ce_id: row.value for row in rows},
        gaps=["first_start", "stopped"],
    )


@pytest.mark.slow
async def test_a_refused_start_still_delivers_what_an_earlier_run_left(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """With a token that has expired the code is 3, and the rows are in Kafka."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=0.1)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.stop()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count)
    assert await bridge.stop() == 0
    assert len(bridge.waiting_rows()) == load.count

    own_kafka.start()
    refused = scene.bridge(
        dryapi,
        outbox_dir=bridge.outbox,
        api_token=f"{scene.account.token}-revoked",
        # A broker that has just started is slow on a busy machine.
        shutdown_timeout_seconds=60,
    )
    refused.start()
    assert "HTTP 401" in await refused.wait_refusal(3)
    await scene.end(gaps=["first_start", "stopped"], open_gaps=1)


def _check_identities(records: Iterable[Record], *files: Iterable[Row]) -> None:
    """No identity names two events, in the topic or in any state of the file."""
    named: dict[str, bytes] = {}
    pairs = [(row.ce_id, row.value) for file in files for row in file]
    pairs += [
        (record.headers["ce_id"].decode(), record.value or b"") for record in records
    ]
    for ce_id, value in pairs:
        assert named.setdefault(ce_id, value) == value
    # Nor do two identities name one event; no two events of a test are alike.
    assert len(set(named.values())) == len(named)


def _killed(bridge: BridgeProcess, put_back: Path) -> list[Row]:
    """Kill a bridge and put its file back; gives the rows that it had then."""
    bridge.kill()
    rows = bridge.rows()
    bridge.put_back(put_back)
    return rows


async def test_a_file_from_before_an_acknowledgement_learns_from_the_log(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, tmp_path: Path
) -> None:
    """Rows that wait by the file and are in the log aren't sent a second time."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        own_kafka.pause()
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.committed == load.count)
        bridge.copy_file(tmp_path / "copy")
        own_kafka.resume()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.published == load.count)
    rows = _killed(bridge, put_back=tmp_path / "copy")
    restored = bridge.rows()
    assert len(bridge.waiting_rows()) == 120
    assert len(rows) == 360

    await bridge.start_and_wait()
    resumed = await bridge.wait_metrics(lambda now: now.waiting == 0)
    assert resumed.total("bridge_records_resumed_total") == 120
    await scene.finish(bridge)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH])
    _check_identities(ending.jobs, rows, restored, bridge.rows())


# A start, the quiet time before the successor resumes, and a busy machine.
_DEADLINE_SECONDS = 25.0


@pytest.fixture
async def proxy(nursery: trio.Nursery, own_kafka: KafkaServer) -> KafkaProxy:
    """A proxy in front of the suite's Kafka."""
    made = KafkaProxy(own_kafka.detours[0])
    await nursery.start(made.serve)
    return made


async def _hold_back(scene: Scene, bridge: BridgeProcess, proxy: KafkaProxy) -> int:
    """Publish half of the events, and hold the others on the wire; gives how many."""
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.published == load.count)
        proxy.hold(RequestKind.PRODUCE)
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.committed == load.count)
    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.wait_held()
    return load.count


@pytest.mark.slow
async def test_a_late_write_is_at_most_a_repeat_with_the_same_identity(
    scene: Scene, dryapi: str, proxy: KafkaProxy
) -> None:
    """What lands after the successor has sent it too is the same record once more."""
    dying = scene.bridge(dryapi, kafka_bootstrap_servers=proxy.bootstrap_servers)
    count = await _hold_back(scene, dying, proxy)
    dying.kill()
    assert len(dying.rows()) == count

    successor = scene.bridge(dryapi, outbox_dir=dying.outbox)
    await successor.start_and_wait()
    await successor.wait_metrics(lambda now: now.waiting == 0)
    assert len(await scene.records()) == count
    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.release()
    await scene.finish(successor)
    ending = await scene.end(gaps=["first_start", EARLY_CRASH], repeats=True)
    # Otherwise nothing has landed late.
    assert ending.verdict.repeats


async def test_a_bridge_that_was_cut_off_is_fenced_by_its_successor(
    scene: Scene, dryapi: str, proxy: KafkaProxy
) -> None:
    """Its batch comes late, its commit would follow: no reader of committed sees it."""
    zombie = scene.bridge(
        dryapi,
        delivery="transactional",
        kafka_bootstrap_servers=proxy.bootstrap_servers,
        # It must not end by itself, however slow the machine.
        kafka_transaction_timeout_seconds=60,
    )
    await _hold_back(scene, zombie, proxy)
    (late,) = proxy.held

    # Another machine gets the volume, while the first is cut off and lives.
    successor = scene.bridge(dryapi, delivery="transactional")
    zombie.copy_file(successor.outbox)
    await successor.start_and_wait()
    await successor.wait_metrics(lambda now: now.waiting == 0)
    # Unfenced it would commit now; fenced it would fence its successor.
    proxy.hold(RequestKind.END_TXN, RequestKind.INIT_PRODUCER_ID)
    with trio.fail_after(_DEADLINE_SECONDS):
        await late.wait_answer()
        await proxy.wait_held()
        zombie.kill()
        await proxy.release()
    await scene.finish(successor)
    # The zombie's own file still counts the rows as waiting.
    await scene.end(gaps=["first_start", EARLY_CRASH], waiting=None)


@pytest.mark.slow
async def test_the_older_of_two_bridges_with_one_outbox_ends(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """In transactional delivery it is fenced and says so; the newer one goes on."""
    older = scene.bridge(dryapi, delivery="transactional")
    await older.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(5) for _ in range(10)])
    await older.wait_metrics(lambda now: now.published == load.count)
    await scene.stop(older)
    copy = tmp_path / "copy"
    shutil.copytree(older.outbox, copy)

    await older.start_and_wait()
    newer = scene.bridge(dryapi, delivery="transactional", outbox_dir=copy)
    await newer.start_and_wait()
    async with scene.load(steady=True) as load:
        sentence = await older.wait_refusal(1)
        assert "two processes use copies of one outbox" in sentence
        assert "BRIDGE_OUTBOX_DIR" in sentence
        before = (await newer.metrics()).published
        await newer.wait_metrics(lambda now: now.published > before + 100)
        await load.stop()
    await newer.wait_metrics(lambda now: now.waiting == 0)
    # Until the older one was fenced a second time both wrote: copies of one outbox.
    await scene.end(judged=False)
