"""How events are judged, against a model that keeps every event of every job.

State: an outbox's file with its table of jobs, and all events of each job so far.
Commits fail, processes restart or are killed, files are damaged and replaced.

Invariant: an event is marked as a duplicate or a regression, or refused because its job
has ended, exactly where all events before it say so; what is in flight is what has
begun and not ended; what was undone isn't counted.

An order of 25 rules takes 40 ms.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

import msgspec
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.rows.lane import Run
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from bridge.events import header_names
from bridge.events.record import Envelope, Record
from bridge.outbox.statistics import OutboxStatistics
from tests.models.exploring import explore
from tests.models.outbox_files import OutboxFiles
from tests.outbox.making import MIB, PLENTY_BYTES, open_jobs, undone


_ENVELOPES = tuple(
    Envelope(f"https://api/clients/{n}", header_names.JOB_STATUS_TYPE, "socket", "")
    for n in range(2)
)

# The last two differ by less than doubles do.
_PROGRESSES = (
    None,
    "0",
    "9.5",
    "09.50",
    "45.50",
    "100",
    "45.5",
    "1" * 20,
    "1" * 20 + ".1",
)

_Job = tuple[str, bytes]
# ce_id, topic, key, value and headers.
_Row = tuple[str, str, bytes, bytes, bytes | None]


def _record(
    envelope: Envelope, job: str, status: str, progress: str | None, preview: str | None
) -> Record:
    told = {
        "request_id": job,
        "status": status,
        "preview": preview,
        "result_url": None,
        "progress": progress,
    }
    value = json.dumps(told).encode()
    return Record(
        "jobs", job.encode(), value, 1, envelope, status=status, progress=progress
    )


_records = st.builds(
    _record,
    st.sampled_from(_ENVELOPES),
    st.sampled_from("abc"),
    # Jobs that go on are told of more often than others.
    st.sampled_from(("processing", *["in_progress"] * 6, "done", "error")),
    st.sampled_from(_PROGRESSES),
    st.sampled_from((None, "data:,1")),
)
_batches = st.lists(st.lists(_records, min_size=1, max_size=6), min_size=1, max_size=3)


def _expected(history: list[Record], event: Record) -> str | None:
    """Judge an event by all events of its job that were published before."""
    if any(one.status in {"done", "error"} for one in history):
        return "late"
    if event.status in {"done", "error"} or not history:
        return None
    if event.value == history[-1].value:
        return "duplicate"
    if event.status == "processing" and any(
        one.status == "in_progress" for one in history
    ):
        return "regression"
    higher = [
        one
        for one in history
        if one.status == event.status
        and one.progress is not None
        and event.progress is not None
        and Decimal(one.progress) > Decimal(event.progress)
    ]
    return "regression" if higher else None


def _dead_letter(record: Record) -> Record:
    return msgspec.structs.replace(
        record, topic="dlq", value=record.value[:-1], status=None
    )


class OrderAgainstModel(OutboxFiles):
    """Rules change both; what is written is compared at once."""

    def __init__(self) -> None:
        super().__init__()
        self.histories: dict[_Job, list[Record]] = {}

    @initialize(publishes=st.booleans())
    def start(self, *, publishes: bool) -> None:
        """Choose what becomes of late events, for good."""
        self.publishes = publishes
        self.open_first()

    def new_order(self) -> Order:
        """Give the judge of a new process, which has counted nothing."""
        self.statistics = OutboxStatistics()
        self.counts: Counter[str] = Counter()
        refuse_late = None if self.publishes else _dead_letter
        return Order(Jobs(statistics=self.statistics), refuse_late)

    # -- Events ----------------------------------------------------------------

    @rule(batches=_batches, notes=st.booleans(), is_undone=st.booleans())
    def append(
        self, batches: list[list[Record]], *, notes: bool, is_undone: bool
    ) -> None:
        """Events are judged as one goes on; what was undone is tried once more."""
        before = {ce_id for ce_id, *_ in self._rows()}
        if is_undone:
            with undone(self.store):
                self.store.append(batches[-1])
                self.store.append(batches[0])
        with self.store.transaction():
            if notes:
                self.store.job_table.write_if_due()
            for batch in batches:
                self.store.append(batch)
        written = [row for row in self._rows() if row[0] not in before]
        # They are numbered as they were appended, whichever their lane.
        written.sort(key=lambda row: int(row[0].split("-")[1]))
        events = [event for batch in batches for event in batch]
        for event, row in zip(events, written, strict=True):
            self._check(event, row)

    def _rows(self) -> list[_Row]:
        return self.opened.connection.execute(
            "SELECT ce_id, lanes.topic, rows.key, rows.value, rows.extra"
            " FROM rows, lanes WHERE lanes.id = rows.position >> 40"
        ).fetchall()

    def _check(self, event: Record, row: _Row) -> None:
        _, topic, key, value, extra = row
        assert event.key is not None
        history = self.histories.setdefault((event.envelope.ce_source, event.key), [])
        verdict = _expected(history, event)
        headers = dict(msgspec.msgpack.decode(extra)) if extra else {}
        if verdict == "late" and not self.publishes:
            assert (topic, key, value) == ("dlq", event.key, event.value[:-1])
            assert headers == {}
            self.counts["late"] += 1
            return
        word = "regression" if verdict == "late" else verdict
        assert (topic, key, value) == ("jobs", event.key, event.value)
        assert headers == ({"bridge_anomaly": word.encode()} if word else {})
        if word is not None:
            self.counts[word] += 1
        history.append(event)

    # -- The file ----------------------------------------------------------------

    @rule()
    def deliver(self) -> None:
        """Kafka takes all that there is, and its rows go: they tell nothing more."""
        if not self.is_open:
            open_jobs(self.store)
            self.is_open = True
        with self.store.transaction():
            self.store.claim(1000, PLENTY_BYTES)
        for state in self.store.lane_states():
            first, last = state.acknowledged_sequence + 1, state.last_sequence
            if first <= last:
                with self.store.transaction():
                    run = Run(first, last, first, 0, 1)
                    self.store.acknowledge(state.topic, state.partition, run)
        with self.store.transaction():
            self.store.trim(
                older_than_us=10**18, keep_bytes=0, max_rows=10**6, max_bytes=MIB
            )

    @rule(is_undone=st.booleans())
    def note(self, *, is_undone: bool) -> None:
        """All is written into the tables, or the disk is full."""
        with undone(self.store) if is_undone else self.store.transaction():
            self.store.job_table.write()

    @invariant()
    def counts_agree(self) -> None:
        """What was undone is not counted, and nothing is counted twice."""
        assert self.statistics.late == self.counts["late"]
        for word in ("duplicate", "regression"):
            assert self.statistics.anomalies[word] == self.counts[word]

    @invariant()
    def jobs_agree(self) -> None:
        """In flight is what was heard of and hasn't ended."""
        for envelope in _ENVELOPES:
            running = {
                key.decode()
                for (ce_source, key), history in self.histories.items()
                if ce_source == envelope.ce_source
                and not any(one.status in {"done", "error"} for one in history)
            }
            found = self.store.jobs.of(envelope.ce_source)
            assert {job.request_id for job in found} == running


def test_events_are_judged_by_all_that_came_before() -> None:
    """No restart, failure or damage changes how an event is judged."""
    explore(OrderAgainstModel, share=1 / 4, steps=25)
