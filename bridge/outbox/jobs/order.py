"""
Whether an event comes where it should in the life of its job.

Judged in the transaction that writes it, against what is committed and what the
transaction has judged before, so that whoever brings events (socket, status answers,
webhooks) meets one judge. Committed events are known to `in_flight`, and jobs that have
ended to `ended`; here is only what isn't committed yet, and what comes of a judgement:
a mark, or a dead letter that somebody else makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from zlib import crc32

import msgspec

from bridge.events import header_names
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.events.record import Envelope, Importance, Record
from bridge.outbox.jobs.in_flight import ENDED, Account, Heard, Jobs
from bridge.outbox.rows import table as rows


__all__ = ["Order"]

_PROCESSING = "processing"

# Upstream writes two decimals: there are 10,001 such texts, 2 MB. Reading one takes
# 0.2 us, as long as all else that is done to compare an event with its job.
_number = lru_cache(maxsize=16_384)(float)


class _Verdict(StrEnum):
    """What is wrong with an event's place."""

    # The job's last event once more, byte for byte. Of 4 billion events that aren't one
    # is taken for such.
    DUPLICATE = header_names.DUPLICATE.decode()
    # Less far than the job was already, whatever came since: so the events without a
    # mark never go back.
    REGRESSION = header_names.REGRESSION.decode()
    # After the job's last record.
    LATE = "late"


class Order:
    """
    The judge, with what the transaction under way tells of jobs.

    Args:
        jobs: What is committed.
        refuse_late: Gives the dead letter of a record that comes after its job's last
            one; it must tell of no job. None publishes such a record, marked.

    Attributes:
        jobs: What is committed.
    """

    def __init__(
        self, jobs: Jobs, refuse_late: Callable[[Record], Record] | None = None
    ) -> None:
        self.jobs = jobs
        self._refuse_late = refuse_late
        # Jobs that have ended are among them. Of each account those that were heard
        # of last come last.
        self._told: dict[Account, dict[bytes, Heard]] = {}
        self._counts: dict[_Verdict, int] = {}

    @property
    def is_idle(self) -> bool:
        """Whether this transaction has told of no job yet."""
        return not any(self._told.values())

    def judge(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[int]]:
        """
        Judge what the transaction is about to append, in its order.

        Args:
            records: Those that have a key and tell a status are judged.

        Returns:
            What is to be written, marked or a dead letter where that must be, and the
            checksum of the key and value of each: they are needed here, and cost too
            much to be summed up twice.
        """
        sums: list[int] = []
        found = self._compare(records, sums)
        if not found:
            return records, sums
        written = list(records)
        for index, verdict in found:
            record = written[index] = self._answer(verdict, records[index])
            sums[index] = rows.checksum(record.key, record.value, None)
        return written, sums

    def known(self, ce_source: str, key: bytes) -> Heard | None:
        """
        Tell what is known of a job, what this transaction has told included.

        Returns:
            `ENDED` of one that has ended, None of one that nobody has heard of.
        """
        account = self.jobs.account(ce_source)
        known = self._told.get(account, {}).get(key) or account.jobs.get(key)
        if known is None and self.jobs.has_ended(account, key):
            return ENDED
        return known

    def learn(self, records: Iterable[Record]) -> None:
        """Learn from rows that were judged and committed before."""
        self._compare(records, [])
        self.jobs.learn(self._told, is_from_before=True)
        self._told.clear()

    def committed(self) -> None:
        """Learn that the transaction holds."""
        if self._told:
            self.jobs.learn(self._told)
            self._told.clear()
        if self._counts:
            statistics = self.jobs.statistics
            for verdict, count in self._counts.items():
                if verdict is _Verdict.LATE:
                    statistics.late += count
                else:
                    statistics.anomalies[verdict] += count
            self._counts.clear()

    def rolled_back(self) -> None:
        """Learn that the transaction was undone."""
        self._told.clear()
        self._counts.clear()

    def _compare(
        self, records: Iterable[Record], sums: list[int]
    ) -> list[tuple[int, _Verdict]]:
        """
        Learn what records tell, and find those that don't come where they should.

        Args:
            records: In their order.
            sums: Gets the checksum of each.
        """
        found: list[tuple[int, _Verdict]] = []
        ended = self.jobs.ended
        envelope: Envelope | None = None
        for record in records:
            key, value, status = record.key, record.value, record.status
            # As `checksum` does it: a call would cost as much as the sum.
            if key is not None and len(value) <= rows.SUMMED_AT_ONCE:
                total = crc32(value, crc32(key))
            else:
                total = rows.checksum(key, value, None)
            sums.append(total)
            if status is None or key is None:
                found += self._late_picture(record, len(sums) - 1)
                continue
            if record.envelope is not envelope:
                envelope = record.envelope
                account = self.jobs.account(envelope.ce_source)
                running, told = account.jobs, self._told.setdefault(account, {})
            progress = record.progress
            if record.extra:
                total = _with_preview(total, record.extra)
            heard = (status, progress, record.received_at_us, total)
            known = told.pop(key, None) or running.get(key)
            if known is None:
                if account.digest(key) in ended:
                    found.append((len(sums) - 1, _Verdict.LATE))
                    continue
            # Nearly all events: `_weigh` would say the same of them.
            elif (
                status == known[0]
                and progress is not None
                and known[1] is not None
                and _number(progress) > _number(known[1])
            ):
                told[key] = heard
                continue
            told[key], verdict = _weigh(known, heard)
            if verdict is not None:
                found.append((len(sums) - 1, verdict))
        return found

    def _late_picture(
        self, record: Record, index: int
    ) -> tuple[tuple[int, _Verdict], ...]:
        """
        Find a preview whose event, the next one of its job, will be late.

        Nothing can come between the two: they were read as one, and offered as one.
        Where late events are published, their previews are as well.
        """
        key, envelope = record.key, record.envelope
        if (
            record.importance is not Importance.PICTURE
            or envelope.ce_type != header_names.PREVIEW_TYPE
            or key is None
            or self._refuse_late is None
        ):
            return ()
        has_ended = self.known(envelope.ce_source, key) is ENDED
        return ((index, _Verdict.LATE),) if has_ended else ()

    def _answer(self, verdict: _Verdict, record: Record) -> Record:
        if verdict is _Verdict.LATE:
            if self._refuse_late is not None:
                self._count(verdict)
                return self._refuse_late(record)
            verdict = _Verdict.REGRESSION
        self._count(verdict)
        return _marked(record, verdict.encode())

    def _count(self, verdict: _Verdict) -> None:
        self._counts[verdict] = self._counts.get(verdict, 0) + 1


def _weigh(known: Heard | None, heard: Heard) -> tuple[Heard, _Verdict | None]:
    """
    Compare an event with what is known of its job.

    Args:
        known: What is known; None of a job that is new.
        heard: What the event tells.

    Returns:
        What is known then, and what is wrong with the event.
    """
    status, progress, at_us, total = heard
    if known is ENDED:
        return ENDED, _Verdict.LATE
    if status in TERMINAL_STATUSES:
        return ENDED, None
    if known is None:
        return heard, None
    stays = (known[0], known[1], at_us, total)
    if total == known[3]:
        return stays, _Verdict.DUPLICATE
    if _is_behind(known, status, progress):
        return stays, _Verdict.REGRESSION
    # Without a progress it says nothing of it, and takes nothing back.
    return (stays if status == known[0] and progress is None else heard), None


def _is_behind(known: Heard, status: str, progress: str | None) -> bool:
    if status != known[0]:
        return status == _PROCESSING
    furthest = known[1]
    if progress is None or furthest is None:
        return False
    # Exact, as doubles aren't; they can only be wrong about what they call equal.
    return Decimal(progress) < Decimal(furthest)


def _with_preview(total: int, extra: tuple[tuple[str, bytes], ...]) -> int:
    """Sum up as well which preview goes with an event on a topic of its own."""
    for name, value in extra:
        if name == header_names.BRIDGE_PREVIEW_SHA256:
            return crc32(value, total)
    return total


def _marked(record: Record, word: bytes) -> Record:
    headers = dict(record.extra)
    before = headers.get(header_names.BRIDGE_ANOMALY)
    headers[header_names.BRIDGE_ANOMALY] = (
        word if before is None else b"%b,%b" % (before, word)
    )
    return msgspec.structs.replace(record, extra=tuple(headers.items()))
