"""What came is what went and what is left, by kind and origin."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the disk
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from bridge import dead_letter
from bridge.kafka import header_names
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.opening import open_outbox
from bridge.outbox.store import Store
from bridge.outbox.tallies import Tally
from bridge.record import Envelope, Importance, Kind, Origin, Record
from bridge.settings import OutboxSettings
from tests.outbox.adding import EVENTS, PREVIEWS, adds_up
from tests.outbox.making import (
    MIB,
    PLENTY_BYTES,
    Log,
    acknowledge,
    append,
    event,
    eventually,
    fresh,
    numbered,
    open_jobs,
    running,
    spread,
    threaded,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an outbox puts its file."""
    return tmp_path / "outbox.sqlite3"


def _opened(path: Path) -> Store:
    store = open_outbox(path, PLENTY_BYTES).store
    open_jobs(store)
    return store


def _letter(record: Record) -> Record:
    return dead_letter.late(record, topic="jobs.dlq", max_bytes=MIB)


def _pictured(job: str, status: str) -> list[Record]:
    told = event(job, status)
    envelope = structs.replace(
        told.envelope, ce_type=header_names.PREVIEW_TYPE, kind=Kind.PREVIEW
    )
    picture = structs.replace(
        told, envelope=envelope, importance=Importance.PICTURE, status=None
    )
    return [picture, told]


def test_each_record_counts_under_its_kind_and_origin(path: Path) -> None:
    """Whatever topic it goes to in the end."""
    gap = Envelope("https://api/clients/7", "a.gap", Origin.SOCKET, "", Kind.GAP)
    webhook = structs.replace(event("b").envelope, origin=Origin.WEBHOOK)
    store = _opened(path)
    append(store, [*_pictured("a", "in_progress"), event("a", progress="5")])
    append(store, [structs.replace(event("b"), envelope=webhook)])
    append(store, [Record("jobs", b"7", b"{}", 1, gap)])
    acknowledge(store, 1, 4, 0)
    assert adds_up(store.counting.tallies) == {
        EVENTS: Tally(committed=2, published=2),
        PREVIEWS: Tally(committed=1, published=1),
        ("event", "webhook"): Tally(committed=1, published=1),
        ("gap", "socket"): Tally(committed=1, waiting=1),
    }
    store.close()


def test_a_late_event_and_its_preview_are_dead_letters_of_their_kinds(
    tmp_path: Path,
) -> None:
    """They are counted where they were read, and where they went."""
    settings = OutboxSettings(dir=tmp_path)
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings, refuse_late=_letter)
        with threaded(outbox), Log(outbox):
            for topic in ("jobs", "jobs.dlq"):
                outbox.open_topic(topic, spread(1), fresh(1), None).result(10)
            outbox.offer([*_pictured("a", "done"), *_pictured("a", "error")])
            tallies = outbox.statistics.tallies

            def all_went() -> bool:
                found = tallies.read()
                return len(found) == 2 and not sum(
                    tally.waiting for tally in found.values()
                )

            eventually(all_went)
        went = Tally(committed=2, published=1, dead_lettered=1)
        assert adds_up(tallies) == {EVENTS: went, PREVIEWS: went}


def test_rows_of_an_earlier_process_are_found_as_they_leave(path: Path) -> None:
    """At the start nobody looks at them; what it was counts then."""
    before = _opened(path)
    append(before, [*_pictured("a", "in_progress"), event("a", progress="5")])
    before.close()
    store = _opened(path)
    assert store.pending == 3
    assert adds_up(store.counting.tallies) == {}
    acknowledge(store, 1, 2, 0)
    append(store, [event("a", progress="6")])
    assert adds_up(store.counting.tallies) == {
        EVENTS: Tally(committed=1, found=1, published=1, waiting=1),
        PREVIEWS: Tally(found=1, published=1),
    }
    acknowledge(store, 3, 4, 2)
    found = adds_up(store.counting.tallies)
    assert found[EVENTS] == Tally(committed=1, found=2, published=3)
    store.close()


def test_rows_without_a_lane_are_found_when_they_get_one(path: Path) -> None:
    """From then on they are this process's as all others are."""
    before = open_outbox(path, PLENTY_BYTES).store
    append(before, numbered(0, 3))
    before.close()
    store = _opened(path)
    with store.transaction():
        store.claim(2, MIB)
    assert adds_up(store.counting.tallies) == {EVENTS: Tally(found=2, waiting=2)}
    acknowledge(store, 1, 2, 0)
    assert adds_up(store.counting.tallies) == {EVENTS: Tally(found=2, published=2)}
    store.close()


def test_what_a_log_lost_is_sent_again(path: Path) -> None:
    """A row of an earlier process, too: it waits once more and goes once more."""
    before = _opened(path)
    append(before, numbered(0, 4))
    acknowledge(before, 1, 2, 0)
    before.close()
    store = open_outbox(path, PLENTY_BYTES).store
    acknowledge(store, 3, 3, 2)
    with store.transaction():
        store.rewind("jobs", 0, 1, 1)
    assert adds_up(store.counting.tallies) == {
        EVENTS: Tally(found=1, resent=2, published=1, waiting=2)
    }
    acknowledge(store, 2, 4, 1)
    assert adds_up(store.counting.tallies) == {
        EVENTS: Tally(found=2, resent=2, published=4)
    }
    store.close()


def test_what_the_broker_refuses_is_a_dead_letter_or_put_aside(path: Path) -> None:
    """A row that isn't the next one to go changes nothing."""
    store = _opened(path)
    first, second, _ = append(store, [event("a"), event("b"), event("c")])
    letter = _letter(event("a"))
    with store.transaction():
        with pytest.raises(ValueError, match="isn't the first"):
            store.quarantine("jobs", 0, second.sequence, "why")
        store.refuse("jobs", 0, first.sequence, letter)
        store.quarantine("jobs", 0, second.sequence, "why")
    assert adds_up(store.counting.tallies) == {
        EVENTS: Tally(committed=3, quarantined=1, waiting=2)
    }
    store.close()


def test_what_finds_no_room_is_counted_as_dropped(tmp_path: Path) -> None:
    """Together with what was written it is all that was offered."""
    settings = OutboxSettings(dir=tmp_path, buffer_bytes=100_000)
    offered = 0
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, settings)
        for number in range(400):
            outbox.offer(_pictured(f"job-{number}", "in_progress"))
            offered += 1
        with threaded(outbox):
            eventually(lambda: outbox.drained)
        found = adds_up(outbox.statistics.tallies)
        for cell in (EVENTS, PREVIEWS):
            assert found[cell].committed + found[cell].dropped == offered
            assert 0 < found[cell].dropped < offered
        assert found[EVENTS].dropped < found[PREVIEWS].dropped


def test_rows_of_a_damaged_file_are_salvaged_or_lost(tmp_path: Path) -> None:
    """Of those that were known none is unaccounted for, whatever could be read."""
    with running(tmp_path) as outbox:
        outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)
        outbox.offer(numbered(0, 200, size=400))
        eventually(lambda: outbox.drained)
        with closing(sqlite3.connect(tmp_path / "outbox.sqlite3")) as other, other:
            other.execute("UPDATE rows SET value = x'00' WHERE position % 50 = 0")
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the future has
            outbox.read("jobs", 0, 0, 1000, 10 * MIB).result(10)
        eventually(lambda: outbox.statistics.lost_rows > 0)
        found = adds_up(outbox.statistics.tallies)[EVENTS]
        assert found.lost == outbox.statistics.lost_rows
        assert (found.committed, found.found) == (200, 0)
        assert found.waiting == 200 - found.lost


def test_the_accounts_of_one_origin_share_a_tally(path: Path) -> None:
    """There is no count for each account: that would be without bound."""
    store = _opened(path)
    append(store, [event("a", account=7), event("a", account=8)])
    assert adds_up(store.counting.tallies) == {EVENTS: Tally(committed=2, waiting=2)}
    store.close()
