"""Records and outboxes for the tests of this folder and the models."""

from __future__ import annotations

import json
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from msgspec import structs

from bridge.events import header_names
from bridge.events.record import Envelope, Origin, Record, StoredRecord
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Delivery, Healing, JobInFlight, Retention
from bridge.settings import OutboxSettings


ENVELOPE = Envelope("https://api/clients/7", "a.type", "socket", "application/json")

MIB = 2**20

# Far above everything that the tests here write.
PLENTY_BYTES = 1024 * MIB

# A day of 2026, as the clock of these tests has it.
NOON_US = 1_780_000_000_000_000


def record(key: str | None, value: bytes = b"{}", topic: str = "jobs") -> Record:
    """Make a record; its key also decides its partition."""
    return Record(topic, None if key is None else key.encode(), value, 1, ENVELOPE)


def source_of(account: int) -> str:
    """Return an account's `ce_source`."""
    return f"https://api/clients/{account}"


def event(  # noqa: PLR0917 - what an event has
    job: str,
    status: str = "in_progress",
    at_us: int = 1,
    account: int = 7,
    progress: str | None = None,
    origin: Origin = Origin.SOCKET,
) -> Record:
    """Make the record of a job's status, as the intake does."""
    said = {"request_id": job, "status": status, "progress": progress}
    envelope = Envelope(
        source_of(account), header_names.JOB_STATUS_TYPE, origin, "application/json"
    )
    return Record(
        "jobs",
        job.encode(),
        json.dumps(said | {"preview": None, "result_url": None}).encode(),
        at_us,
        envelope,
        status=status,
        progress=progress,
    )


def delivery(
    name: str,
    job: str,
    status: str = "done",
    due_us: int = NOON_US,
    account: int = 7,
) -> Delivery:
    """Make a webhook."""
    reported = event(job, status, account=account, origin=Origin.WEBHOOK)
    return Delivery(name, reported, due_us)


def answer(
    job: JobInFlight, status: str = "done", *gap_ids: str, at_us: int = NOON_US
) -> Healing:
    """Make what the status endpoint says of a job."""
    reported = event(job.request_id, status, at_us, origin=Origin.STATUS_ENDPOINT)
    return Healing(reported, job, gap_ids)


def dead_letter(of: Record) -> Record:
    """Make the dead letter of a record."""
    return structs.replace(of, topic="dlq", status=None, progress=None)


def numbered(first: int, count: int, size: int = 10, keys: int = 7) -> list[Record]:
    """Make records whose values begin with their number."""
    return [
        record(f"job-{number % keys}", f"{number}:".encode().ljust(size, b"x"))
        for number in range(first, first + count)
    ]


def number_of(row: StoredRecord | Record) -> int:
    """Read back the number that `numbered` gave."""
    return int(row.value.split(b":")[0])


def make_outbox(directory: OutboxDirectory, **options: Any) -> Outbox:
    """Open an outbox with options of its own, of settings and of retention."""
    kept, limits = (
        {name: options.pop(name) for name in names & options.keys()}
        for names in (
            set(Retention.__struct_fields__),
            {field.name for field in fields(OutboxSettings)},
        )
    )
    on_loss = options.pop("on_loss", None)
    settings = OutboxSettings(dir=directory.path, **limits)
    outbox = Outbox(directory, settings, retention=Retention(**kept), **options)
    if on_loss is not None:
        outbox.on_loss = on_loss
        # As the ledger's `restore` does.
        if outbox.memory.damage is not None:
            on_loss(outbox.memory.damage)
    return outbox


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Outbox]:
    """Have an outbox whose topics are open, and close it in order."""
    with OutboxDirectory(path) as directory:
        outbox = make_outbox(directory, **options)
        try:
            if not outbox.knows(["jobs", "dlq", "gaps"]):
                open_topics(outbox, "jobs", "dlq", "gaps")
            yield outbox
        finally:
            outbox.close()


def open_topics(outbox: Outbox, *topics: str, partitions: int = 1) -> None:
    """Open topics whose logs are empty, as the relay does."""
    for topic in topics:
        outbox.open_topic(topic, partitions, None)
        empty = dict.fromkeys(range(partitions), (0, 0, ()))
        outbox.continue_behind(topic, empty)


@contextmanager
def threaded(
    outbox: Outbox,
) -> Iterator[dict[tuple[str, int], list[StoredRecord]]]:
    """Commit and deliver in a thread of its own; gives the rows by partition."""
    logs: dict[tuple[str, int], list[StoredRecord]] = {}
    ends = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while outbox.has_work or not ends.wait(0.001):
                if outbox.has_work or outbox.has_acknowledgements:
                    for topic, partition, rows in outbox.commit():
                        log = logs.setdefault((topic, partition), [])
                        first, last = rows[0].sequence, rows[-1].sequence
                        outbox.acknowledge(topic, partition, first, last, len(log), 1)
                        log += rows
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield logs
    finally:
        ends.set()
        thread.join(20)
        if errors:
            raise errors[0]


def append(outbox: Outbox, records: list[Record]) -> list[StoredRecord]:
    """Commit records; give their rows."""
    outbox.offer(records)
    placed = []
    while outbox.has_work:
        new = outbox.commit()
        assert new
        placed += new
    return [row for _, _, rows in placed for row in rows]


def judged(
    refuse_late: Callable[[Record], Record], *reads: list[Record]
) -> list[Record]:
    """Give what an outbox makes of the last of several reads."""
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder), refuse_late=refuse_late) as outbox,
    ):
        topics = {record.topic for read in reads for record in read}
        open_topics(outbox, *(topics | {"jobs.dlq"}) - {"jobs"})
        for read in reads:
            outbox.offer(read)
            placed = outbox.commit()
        rows = [(topic, row) for topic, _, rows in placed for row in rows]
        rows.sort(key=lambda row: int(row[1].ce_id.rpartition("-")[2]))
        names = ("key", "value", "received_at_us", "envelope", "extra")
        return [
            Record(topic, *(getattr(row, name) for name in names))
            for topic, row in rows
        ]


def read_all(
    outbox: Outbox, partition: int = 0, after: int = 0, topic: str = "jobs"
) -> list[StoredRecord]:
    """Read a partition, across holes."""
    rows: list[StoredRecord] = []
    while more := outbox.read(topic, partition, after, 1000, PLENTY_BYTES):
        rows += more
        after = rows[-1].sequence
    return rows


@contextmanager
def full_disk(path: Path, room_bytes: int = 0) -> Iterator[None]:
    """Let no file of this process become longer than an outbox's WAL is."""
    wal = path / "outbox.sqlite3-wal"
    length = wal.stat().st_size if wal.exists() else 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length + room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
