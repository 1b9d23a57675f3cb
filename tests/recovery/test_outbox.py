"""What a hearing leaves in a real outbox is what the next process goes on with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.accounts import AccountGaps
from bridge.events.record import Envelope, Origin, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.records import Healing, JobInFlight
from bridge.recovery.gap import Gap
from bridge.recovery.ledger import Ledger
from bridge.settings import OutboxSettings
from tests.recovery.books import NOW_US, SOURCE


class _Process:
    """One process's outbox, ledger and hearing, in the order of the service."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.ledger = Ledger("jobs.gaps", {"42": SOURCE + "42"})
        self.ledger.connect(outbox.keep)
        self.ledger.restore(outbox.memory)
        self.hearing = AccountGaps(
            "42", self.ledger, lambda: outbox.jobs.count(SOURCE + "42")
        )
        self.hearing.begin(
            outbox.memory.proved_us.get(SOURCE + "42"),
            was_stopped=outbox.memory.was_stopped,
        )


@contextmanager
def _process(path: Path) -> Iterator[_Process]:
    """Run one until its end, which is in order."""
    settings = OutboxSettings(dir=path)
    with OutboxDirectory(path) as directory:
        outbox = Outbox(directory, settings)
        process = _Process(outbox)
        thread = threading.Thread(target=outbox.run)
        thread.start()
        try:
            yield process
        finally:
            outbox.stop()
            thread.join()


def _told(status: str, origin: Origin) -> Record:
    """Give what is told of job a."""
    envelope = Envelope(
        ce_source=SOURCE + "42",
        ce_type="dev.dryapi.request.status.updated",
        origin=origin,
        content_type="application/json",
    )
    return Record("jobs", b"a", b"{}", NOW_US, envelope, status=status)


def _left(process: _Process) -> list[tuple[int | None, int, int]]:
    """Give what the process before left of each gap: unknown, and what was healed."""
    return [
        (
            Gap.decode(left.value).unknown,
            left.healed_by_status_endpoint,
            left.healed_by_webhook,
        )
        for left in process.outbox.memory.left_gaps
    ]


def test_job_counts_for_its_gap_though_the_process_ends_before_it_is_settled(
    tmp_path: Path,
) -> None:
    """The end and its count are one transaction; the next process tells it, once."""
    job = JobInFlight("a", "processing", None, NOW_US)
    with _process(tmp_path) as first:
        first.outbox.offer([_told("processing", Origin.SOCKET)])
        first.hearing.subscribed(NOW_US + 9)
        gap_ids = first.ledger.healable("42", NOW_US, None)
        [gap_id] = gap_ids
        record = _told("done", Origin.STATUS_ENDPOINT)
        assert first.outbox.heal(Healing(record, job, gap_ids)).result(9)
        # It would tell the ledger now.
    with _process(tmp_path) as second:
        assert _left(second) == [(None, 1, 0)]
        second.ledger.settle(gap_id, 1)
        second.outbox.prove({SOURCE + "42": NOW_US + 10})
    with _process(tmp_path) as third:
        # Its own start, and what is corrected.
        assert (1, 1, 0) in _left(third)
        third.ledger.settle(gap_id, 0)
    with _process(tmp_path) as fourth:
        assert all(unknown is None for unknown, _, _ in _left(fourth))
