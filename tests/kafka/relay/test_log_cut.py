"""A log that lost acknowledged records: its broker's files were put back."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio

from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    Rig,
    feed,
    numbers_of,
    opened,
    read_back,
    rig,
    settings_for,
    until,
    write_foreign,
)
from tests.kit import reader
from tests.kit.kafka import KafkaServer


class _Moment:
    """A moment that comes once every story has reached it."""

    def __init__(self, stories: int) -> None:
        self._missing = stories
        self._reached = trio.Event()
        self._over = trio.Event()

    async def reach(self) -> None:
        """Wait until it is over; called by each story."""
        self._missing -= 1
        if not self._missing:
            self._reached.set()
        await self._over.wait()

    async def happen(self, deed: Callable[[], None]) -> None:
        """Do what happens at this moment."""
        await self._reached.wait()
        await trio.to_thread.run_sync(deed)
        self._over.set()


@dataclass(frozen=True)
class Stage:
    """What a story sees."""

    topic: Topic
    folder: Path
    copied: _Moment
    cut: _Moment


Story = Callable[[Stage], Awaitable[None]]


async def play(folder: Path, *stories: Story) -> None:
    """
    Tell stories side by side on one broker, since each of its starts takes seconds.

    Args:
        folder: For the broker's data and the stories.
        *stories: Each reaches both moments, the copy first.
    """
    server = KafkaServer(data_dir=folder / "kafka")
    data, copy = server.data_dir / "node-1" / "data", folder / "copy"

    def take() -> None:
        server.stop()
        shutil.copytree(data, copy)
        server.start()

    def put_back() -> None:
        server.stop()
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        server.start()

    copied, cut = _Moment(len(stories)), _Moment(len(stories))
    try:
        await trio.to_thread.run_sync(server.start)
        async with trio.open_nursery() as nursery:
            for number, story in enumerate(stories):
                name = f"jobs-{number}"
                await trio.to_thread.run_sync(partial(server.create_topic, name, 3))
                topic = Topic(name, "-", "-", 3, server.bootstrap_servers)
                place = folder / f"outbox-{number}"
                nursery.start_soon(story, Stage(topic, place, copied, cut))
            await copied.happen(take)
            await cut.happen(put_back)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.kill)


def check_resent(
    records: Sequence[reader.Record],
    *,
    kept: Iterable[int],
    lost: Iterable[int],
    later: Iterable[int],
) -> int:
    """Assert that the log got again what it lost, marked and in order."""
    ours = [one for one in records if "bridge_outbox" in one.headers]
    marked = [one for one in ours if "bridge_anomaly" in one.headers]
    plain = [one for one in ours if "bridge_anomaly" not in one.headers]
    assert {one.headers["bridge_anomaly"] for one in marked} <= {b"resent"}
    kept, lost, later = set(kept), set(lost), set(later)
    assert max(Counter(numbers_of(plain)).values()) == 1
    assert max(Counter(numbers_of(marked)).values(), default=1) == 1
    assert kept <= set(numbers_of(plain)) <= kept | later
    assert lost <= set(numbers_of(marked)) <= lost | later
    assert set(numbers_of(ours)) == kept | lost | later
    names: dict[int, set[bytes]] = defaultdict(set)
    for one, number in zip(ours, numbers_of(ours), strict=True):
        names[number].add(one.headers["ce_id"])
    assert all(len(ce_ids) == 1 for ce_ids in names.values())
    for partition in {one.partition for one in ours}:
        _check_lane([one for one in ours if one.partition == partition])
    return len(marked)


def _check_lane(records: Sequence[reader.Record]) -> None:
    """Assert that a lane's records stand in order up to a cut, and again from it on."""
    sequences = [int(one.headers["bridge_sequence"]) for one in records]
    resent = [
        index for index, one in enumerate(records) if "bridge_anomaly" in one.headers
    ]
    first = resent[0] if resent else len(records)
    before, after = sequences[:first], sequences[first:]
    if not resent:
        assert before == list(range(1, len(before) + 1))
        return
    # From the first missing row on, without a hole.
    assert after == list(range(after[0], after[0] + len(after)))
    # What came before it, and what was sent until the cut was found.
    assert before[: after[0] - 1] == list(range(1, after[0]))
    late = before[after[0] - 1 :]
    assert late == sorted(late)
    assert all(sequence in after for sequence in late)
    assert all("bridge_anomaly" in one.headers for one in _twice(records, late))


def _twice(
    records: Sequence[reader.Record], late: Sequence[int]
) -> list[reader.Record]:
    """Give the second record of each sequence that is there twice."""
    return [
        [one for one in records if int(one.headers["bridge_sequence"]) == sequence][-1]
        for sequence in late
    ]


KEPT, LOST, LATER = range(100), range(100, 160), range(160, 240)


async def bridge(stage: Stage, numbers: range) -> None:
    """Run a bridge until it has sent some events; end it cleanly."""
    topic = stage.topic
    async with rig(settings_for(topic), [topic.name], stage.folder) as running:
        await opened(running)
        running.offer(topic.name, numbers)
        await running.all_sent(topic.name, len(numbers))
        await running.drain()


async def overwrite(stage: Stage) -> None:
    """Write more foreign records to each partition than were lost there."""
    for partition in range(stage.topic.partitions):
        await trio.to_thread.run_sync(write_foreign, stage.topic, partition, len(LOST))


async def settled(running: Rig, stage: Stage) -> None:
    """Wait until nothing waits; assert what the topic has, and what was counted."""
    await running.nothing_waits()
    marked = check_resent(
        await read_back(stage.topic), kept=KEPT, lost=LOST, later=LATER
    )
    # Marked as well is what was sent before the loss was noticed.
    assert running.counted("resent") == {stage.topic.name: len(LOST)}
    assert marked >= len(LOST)
    assert running.errors == []


async def it_runs_on(stage: Stage, *, anew: bool) -> None:
    """A bridge runs while the log is cut."""
    topic, settings = stage.topic, settings_for(stage.topic)
    if anew:
        await bridge(stage, KEPT)
        await stage.copied.reach()
    async with rig(settings, [topic.name], stage.folder) as running:
        await opened(running)
        if not anew:
            running.offer(topic.name, KEPT)
            await running.all_sent(topic.name, len(KEPT))
            await stage.copied.reach()
        sent = running.sent(topic.name)
        running.offer(topic.name, LOST)
        await running.all_sent(topic.name, sent + len(LOST))
        await stage.cut.reach()
        await feed(running, topic, len(LATER), first=LATER[0])
        await until(lambda: running.counted("resent"))
        await settled(running, stage)


async def it_is_down(stage: Stage) -> None:
    """No bridge runs while the log is cut; the next one finds it at its start."""
    topic, settings = stage.topic, settings_for(stage.topic)
    await bridge(stage, KEPT)
    await stage.copied.reach()
    await bridge(stage, LOST)
    await stage.cut.reach()
    # Foreign records stand where the lost ones stood.
    await overwrite(stage)
    async with rig(settings, [topic.name], stage.folder) as running:
        await opened(running)
        assert running.counted("resent") == {topic.name: len(LOST)}
        await feed(running, topic, len(LATER), first=LATER[0])
        await settled(running, stage)


async def it_crashes_again_and_again(stage: Stage) -> None:
    """The bridge that sends the lost records again is killed while it does."""
    topic, lost = stage.topic, range(100, 700)
    later = range(700, 780)
    await bridge(stage, KEPT)
    await stage.copied.reach()
    await bridge(stage, lost)
    await stage.cut.reach()
    # Two or three records a batch: there is always a middle.
    settings = settings_for(topic, max_batch_bytes=1024)
    for _ in range(3):
        async with rig(settings, [topic.name], stage.folder) as running:
            await opened(running)
            await until(lambda: running.sent(topic.name) >= 30)
            assert running.outbox.statistics.rows > 0
    async with rig(settings, [topic.name], stage.folder) as running:
        await opened(running)
        await feed(running, topic, len(later), first=later[0])
        await running.committed(len(later))
        await running.nothing_waits()
        # It was found once; no later start takes what is resent for lost again.
        assert running.counted("resent") == {}
    marked = check_resent(await read_back(topic), kept=KEPT, lost=lost, later=later)
    assert marked == len(lost)


async def its_rows_are_gone(stage: Stage) -> None:
    """The outbox keeps no acknowledged rows: the loss is logged, all goes on."""
    topic = stage.topic
    async with rig(
        settings_for(topic), [topic.name], stage.folder, keep_acked_seconds=0.0
    ) as running:
        await opened(running)
        running.offer(topic.name, KEPT)
        await running.all_sent(topic.name, len(KEPT))
        await stage.copied.reach()
        running.offer(topic.name, LOST)
        await running.all_sent(topic.name, len(KEPT) + len(LOST))
        await until(lambda: _kept_rows(running, stage) == 0)
        await stage.cut.reach()
        sent = running.sent(topic.name)
        await feed(running, topic, len(LATER), first=LATER[0])
        await running.all_sent(topic.name, sent + len(LATER))
        await running.nothing_waits()
    ours = [one for one in await read_back(topic) if "ce_id" in one.headers]
    numbers = [int((one.value or b"").split()[0]) for one in ours]
    assert set(numbers) == {*KEPT, *LATER}


def _kept_rows(running: Rig, stage: Stage) -> int:
    return sum(
        len(running.outbox.delivered(stage.topic.name, partition, 0, 1))
        for partition in range(stage.topic.partitions)
    )


STORIES: dict[str, Story] = {
    "runs": partial(it_runs_on, anew=False),
    # Nothing is known of its producer: its next batch isn't refused for its sequence.
    "runs anew": partial(it_runs_on, anew=True),
    "down beside others": it_is_down,
    "crashes": it_crashes_again_and_again,
    "rows are gone": its_rows_are_gone,
}


@pytest.mark.timeout(180)  # it takes 20 s where nothing else runs
async def test_a_log_that_lost_its_tail_gets_it_again(tmp_path: Path) -> None:
    """From the first missing row on, in order and marked; each loss is told once."""
    with structlog.testing.capture_logs() as lines:
        await play(tmp_path, *STORIES.values())
    cuts = [line for line in lines if line["event"] == "partition.log_truncated"]
    told = {
        name: sorted(line["partition"] for line in cuts if line["topic"] == topic)
        for topic, name in zip(
            (f"jobs-{number}" for number in range(len(STORIES))), STORIES, strict=True
        )
    }
    assert told == {name: [0, 1, 2] for name in STORIES}
