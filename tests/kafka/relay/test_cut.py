"""Which acknowledged rows a log has lost: every way in which a log can lose records."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import (
    AsyncGenerator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka import ConsumerRecord  # noqa: TID251 - what a log gives
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka.relay import cut
from bridge.kafka.relay.cut import first_missing
from bridge.kafka.relay.log import Bounds, Log
from bridge.kafka.relay.ports import OutboxPort
from bridge.record import Delivered


OUTBOX = "5c1e9d3a-0000-4000-8000-000000000005"

# What stands at an offset: a row of ours by its sequence, or somebody else's record.
FOREIGN = 0


class Broker:
    """
    A partition's log.

    Args:
        begin: The first offset that is left.
        records: What stands at the offsets from `begin` on; None where nothing does.
        portion: How many records are given at once.
        aborted: The offsets of those that readers of committed records aren't given.
    """

    def __init__(
        self,
        begin: int,
        records: Sequence[int | None],
        portion: int = 3,
        aborted: Collection[int] = (),
    ) -> None:
        self.bounds = Bounds(begin, begin + len(records))
        self._portion = portion
        self._aborted = aborted
        self._records = [
            self._record(begin + index, sequence)
            for index, sequence in enumerate(records)
            if sequence is not None
        ]
        self.first_read: int | None = None

    @staticmethod
    def _record(offset: int, sequence: int) -> ConsumerRecord:
        headers = [
            ("ce_id", b"id-%d" % sequence),
            ("bridge_sequence", b"%d" % sequence),
            ("bridge_outbox", OUTBOX.encode()),
        ]
        return SimpleNamespace(
            offset=offset, headers=[] if sequence == FOREIGN else headers
        )

    async def records(
        self,
        firsts: Mapping[int, int],
        ends: Mapping[int, Bounds],
        *,
        aborted: bool = False,
    ) -> AsyncGenerator[tuple[int, list[ConsumerRecord]], None]:
        """Give the records from an offset on, as `Log.records` does."""
        self.first_read = max(firsts[0], ends[0].begin_offset)
        left = [
            one
            for one in self._records
            if one.offset >= self.first_read
            and (aborted or one.offset not in self._aborted)
        ]
        while left:
            yield 0, left[: self._portion]
            left = left[self._portion :]


class Kept:
    """The acknowledged rows that an outbox keeps, by sequence and offset."""

    id = OUTBOX

    def __init__(self, rows: Iterable[tuple[int, int]]) -> None:
        self._rows = [
            Delivered(sequence, f"id-{sequence}", offset) for sequence, offset in rows
        ]

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> Future[list[Delivered]]:
        """Read rows as `Outbox.delivered` does."""
        assert (topic, partition) == ("jobs", 0)
        future: Future[list[Delivered]] = Future()
        future.set_result(
            [row for row in self._rows if row.sequence > after][:max_rows]
        )
        return future


def missing(kept: Iterable[tuple[int, int]], broker: Broker) -> int | None:
    """Ask for the first row that the log has lost."""
    log, outbox = cast("Log", broker), cast("OutboxPort", Kept(kept))
    row = asyncio.run(first_missing(log, outbox, "jobs", 0, broker.bounds))
    return None if row is None else row.sequence


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the outbox in portions that end in the middle of every case."""
    monkeypatch.setattr(cut, "_ROWS_A_READ", 3)


SIDE_BY_SIDE = [(sequence, sequence - 1) for sequence in range(1, 9)]


@pytest.mark.parametrize(
    ("kept", "begin", "records", "expected"),
    [
        pytest.param([], 0, [], None, id="nothing kept"),
        pytest.param([], 0, [FOREIGN, 7], None, id="nothing kept, records there"),
        pytest.param(SIDE_BY_SIDE, 0, range(1, 9), None, id="all there"),
        pytest.param(SIDE_BY_SIDE, 0, range(1, 12), None, id="and more"),
        pytest.param(SIDE_BY_SIDE, 0, range(1, 6), 6, id="the tail is gone"),
        pytest.param(SIDE_BY_SIDE, 0, range(1, 8), 8, id="the last one is gone"),
        pytest.param(SIDE_BY_SIDE, 0, [], 1, id="everything is gone"),
        pytest.param(
            SIDE_BY_SIDE, 0, [1, 2, 3, *[FOREIGN] * 9], 4, id="others stand there"
        ),
        pytest.param(
            SIDE_BY_SIDE, 0, [1, 2, 3, FOREIGN], 4, id="others stand at some of it"
        ),
        pytest.param(
            SIDE_BY_SIDE, 0, [1, 2, 3, 9, 10, 11], 4, id="our later rows stand there"
        ),
        pytest.param(SIDE_BY_SIDE, 5, range(6, 9), None, id="the head was trimmed"),
        pytest.param(SIDE_BY_SIDE, 8, [], None, id="all of it was trimmed"),
        pytest.param(SIDE_BY_SIDE, 8, [FOREIGN], None, id="trimmed, others came"),
        pytest.param(SIDE_BY_SIDE, 30, [], None, id="trimmed beyond the rows"),
        pytest.param(SIDE_BY_SIDE, 3, [4, 5], 6, id="trimmed and cut"),
        pytest.param(
            SIDE_BY_SIDE,
            0,
            [None, 2, None, None, 5, None, None, 8],
            None,
            id="compacted",
        ),
        pytest.param(
            SIDE_BY_SIDE, 0, [None] * 8 + [FOREIGN], None, id="all compacted away"
        ),
        pytest.param(
            SIDE_BY_SIDE,
            0,
            [1, 2, None, None, 5, None, None, None, FOREIGN],
            None,
            id="compacted at the end, others came",
        ),
        pytest.param(
            SIDE_BY_SIDE, 0, [None, 2, None, 4, None], 5, id="compacted and cut"
        ),
        pytest.param(
            SIDE_BY_SIDE,
            0,
            [1, 2, 3, None, None, FOREIGN],
            4,
            id="cut, a compacted foreign record before another",
        ),
        pytest.param(
            [(1, 0), (2, 2), (3, 4)],
            0,
            [1, FOREIGN, 2, None, 3, None],
            None,
            id="others and their markers between",
        ),
        pytest.param(
            [(1, 0), (2, 2), (3, 4)], 0, [1, FOREIGN, 2, None], 3, id="between, and cut"
        ),
        pytest.param(
            [(5, 4), (6, 5)], 0, [9, 9, 9, 9, 5, 6], None, id="older ones aren't kept"
        ),
        pytest.param(
            [(1, 0), (2, 1), (3, 2), (4, 1), (5, 2)],
            0,
            [1, 4, 5],
            2,
            id="acknowledged again where lost ones stood",
        ),
        pytest.param(
            [(1, 0), (2, 1), (3, 0), (4, 1)], 0, [3, 4], 1, id="acknowledged over all"
        ),
        pytest.param(
            [(1, 0), (2, 2), (3, 4)],
            0,
            [1, None, 2, 4, None],
            3,
            id="the marker of a later one stands there",
        ),
        pytest.param(
            [(1, 0), (2, 3), (3, 4)],
            0,
            [1, FOREIGN, 3, None, None, FOREIGN],
            None,
            id="compacted, one that was sent again stood ahead once",
        ),
    ],
)
def test_the_first_row_that_is_lost_is_found(
    kept: list[tuple[int, int]],
    begin: int,
    records: Sequence[int | None],
    expected: int | None,
) -> None:
    """A row counts as lost where the log must have it and hasn't, and never else."""
    assert missing(kept, Broker(begin, list(records))) == expected


def test_the_log_is_read_from_the_first_row_that_is_kept() -> None:
    """What stands before it is nobody's concern: it may be millions of records."""
    broker = Broker(0, [FOREIGN] * 1_000 + [1, 2])
    assert missing([(1, 1_000), (2, 1_001)], broker) is None
    assert broker.first_read == 1_000


@pytest.mark.parametrize(
    ("aborted", "expected"),
    [
        ([7], 8),
        ([3, 4, 5], 4),
        ([0], 1),
        (range(8), 1),
        # Somebody else's, behind our rows.
        ([8, 9], None),
    ],
)
def test_a_row_that_was_aborted_is_lost(
    aborted: Collection[int], expected: int | None
) -> None:
    """It stands at its place, and no reader of committed records is given it."""
    records = [*range(1, 9), FOREIGN, FOREIGN]
    assert missing(SIDE_BY_SIDE, Broker(0, records, aborted=aborted)) == expected


# -- Against a log that remembers what became of each record -------------------


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[list[tuple[int, int]], int, list[int | None], int | None]:
    """Give rows that are kept, a log that lost records in some way, and the answer."""
    sequence = 0
    log: list[int | None] = []
    rows: list[tuple[int, int]] = []
    for kind in draw(st.lists(st.sampled_from("rrrfm"), max_size=24)):
        if kind == "r":
            sequence += 1
            rows.append((sequence, len(log)))
            log.append(sequence)
        else:
            log.append(FOREIGN if kind == "f" else None)
    end = len(log)
    if draw(st.booleans()):
        end = draw(st.integers(0, len(log)))
        log = log[:end]
        # Written after the cut by others.
        log += [FOREIGN] * draw(st.integers(0, 6))
    lost = [number for number, offset in rows if offset >= end]
    dropped = draw(st.sets(st.integers(0, max(len(log) - 1, 0))))
    compacted = [None if index in dropped else one for index, one in enumerate(log)]
    begin = draw(st.integers(0, len(log)))
    kept = rows[draw(st.integers(0, len(rows))) :]
    there = [number for number, offset in kept if offset >= begin]
    answer = min((number for number in there if number in lost), default=None)
    return kept, begin, compacted, answer


@given(histories(), st.integers(1, 7), st.integers(1, 5))
def test_a_cut_is_told_from_what_was_delivered(
    history: tuple[list[tuple[int, int]], int, list[int | None], int | None],
    portion: int,
    rows_a_read: int,
) -> None:
    """The first lost row is named, or one before it of which nobody can tell."""
    kept, begin, log, lost = history
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "_ROWS_A_READ", rows_a_read)
        found = missing(kept, Broker(begin, log[begin:], portion))
    offsets = dict(kept)
    if found is None:
        # What was lost can only hide where readers see nothing at all.
        assert all(
            log[offset] is None
            for number, offset in kept
            if lost is not None and number >= lost and begin <= offset < len(log)
        )
        assert lost is None or offsets[kept[-1][0]] < len(log)
        return
    assert lost is not None
    assert found <= lost
    # Rows before the lost one are sent again only where nobody can tell whether they
    # were compacted away or lost: the log shows nothing at their offsets.
    assert all(log[offset] is None for number, offset in kept if found <= number < lost)
    assert all(offset >= begin for number, offset in kept if number >= found)
