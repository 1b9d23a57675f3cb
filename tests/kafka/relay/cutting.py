"""A broker whose files are put back to an older copy, while stories are told of it."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from tests.conftest import Topic
from tests.kafka.relay.relaying import numbers_of
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
