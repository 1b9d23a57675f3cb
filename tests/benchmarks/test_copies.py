"""A preview of 100 KB is copied as often as was looked at, and a copy is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from benchmarks.allocations import Watch
from benchmarks.copies import WHY, report
from benchmarks.copy_stages import (
    FILE_WRITTEN,
    SQLITE,
    TOPIC,
    Copy,
    Stage,
    event_text,
    from_socket,
    of_frame,
    of_intake,
    open_store,
    through_outbox,
    to_kafka,
)
from bridge.record import StoredRecord
from tests.benchmarks.runs import MACHINE
from tests.kit.broker import KafkaBroker


# Of an event's bytes: what framing, headers and the escapes of its text make out.
_LITTLE = 0.1

# Of a row that is written: the pages that it fills to the half.
_PAGES = 0.35


def _has_at_most(stage: Stage, times: float) -> None:
    """Fail where there are more copies, or one that nobody has a reason for."""
    assert stage.times <= times + _LITTLE, stage.copies
    assert [copy for copy in stage.copies if copy.place not in WHY] == []


def _copied(data: bytearray) -> int:
    return len(bytes(data))


def _viewed(data: bytearray) -> int:
    return len(memoryview(data)[1:])


def test_a_copy_is_seen_even_if_it_is_gone_at_once() -> None:
    """What was looked at without being copied isn't counted, however large."""
    data = bytearray(100_000)

    with Watch() as watch:
        _viewed(data)
        kept = bytes(data)
        _copied(data)

    assert len(kept) == len(data)
    *first, last = watch.allocations
    assert [one.kept_bytes // 100_000 for one in first] == [1]
    assert max(last.kept_bytes, last.passing_bytes) // 100_000 == 1
    assert last.place == f"{__name__}._copied"


def test_a_message_is_copied_three_times_from_the_socket() -> None:
    """Out of the kernel, to what was read before, and into a text."""
    stage = from_socket(event_text())

    _has_at_most(stage, 3)
    assert stage.times > 2, "the watch has missed what must be there"


def test_a_frame_is_copied_twice() -> None:
    """Its payload's escapes are undone, and a text is made of it."""
    stage = of_frame(event_text())

    _has_at_most(stage, 2)


@pytest.mark.parametrize(
    ("previews", "times"),
    [("inline", 1), ("drop", 2), ("topic", 4.75)],
)
def test_a_payload_is_copied_once_and_more_only_where_its_preview_is_cut_out(
    previews: Literal["inline", "drop", "topic"], times: float
) -> None:
    """The value is made once; a record refers to it."""
    stage, records = of_intake(event_text(), previews)

    _has_at_most(stage, times)
    assert len(records) == (2 if previews == "topic" else 1)


def test_a_row_is_never_copied_in_python_on_its_way_to_disk(tmp_path: Path) -> None:
    """SQLite binds it, makes a row and pages; the log gets the pages once."""
    text = event_text()
    _, (record,) = of_intake(text)

    with open_store(tmp_path) as opened:
        (to_disk, emptied, read), row = through_outbox(opened, record, len(text))

    assert row.value is record.value
    assert {copy.place for copy in to_disk.copies} <= {SQLITE, FILE_WRITTEN}
    _has_at_most(to_disk, 3 + 1 + _PAGES)
    _has_at_most(emptied, 2 * (1 + _PAGES))
    _has_at_most(read, 1 + 3 + 1 + _PAGES)


def test_a_row_is_copied_twice_on_its_way_to_kafka(kafka: KafkaBroker) -> None:
    """Into its batch, and with the batch into the request."""
    text = event_text()
    _, (record,) = of_intake(text)
    kafka.create_topic(TOPIC)
    try:
        row = StoredRecord(1, "id-1", record.key, record.value, 1, record.envelope)
        stage = to_kafka(kafka.bootstrap_servers, row, len(text))
    finally:
        kafka.delete_topics(TOPIC)

    _has_at_most(stage, 2)
    assert stage.times > 1, "the watch has missed what must be there"


def test_the_table_names_each_copy_with_its_reason() -> None:
    """One that nobody has a reason for stands out."""
    stages = [Stage("here", (Copy(SQLITE, 1.2), Copy("somebody.new", 1.0)))]

    lines = report(MACHINE, 99_000, stages).splitlines()

    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert ["here", "2.2", "", ""] in found
    assert ["", "1.2", SQLITE, WHY[SQLITE]] in found
    assert ["", "1.0", "somebody.new", "not known"] in found
