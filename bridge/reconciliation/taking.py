"""
What an answer of the status endpoint means for the job that was asked about.

Owns the way from an answer to a record, and waits until the outbox has written it or
found it superseded. When who is asked is `asking`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Final

from bridge.events.record import Origin, Record
from bridge.outbox.values import Healing, JobInFlight
from bridge.reconciliation.answers import StatusAnswer, without_extras
from bridge.reconciliation.ports import AskedAccount, Rooms
from bridge.reconciliation.settlements import Fate
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.threads import answer_of


__all__ = ["Taker"]

# How far a job is. What is further than what is known of a job is news; the endpoint
# says `processing` of all that run, so that it seldom is.
_STEPS: Final = {"pending": 0, "processing": 1, "in_progress": 2, "done": 3, "error": 3}
_END: Final = 3


class Taker:
    """
    Takes answers.

    Args:
        rooms: Where records go, and which gaps they heal.
        statistics: Where is counted what was written.
        max_event_bytes: The largest event that becomes a record; a larger one goes
            without what the socket's events don't have.
        now_us: The time, microseconds since the epoch.
    """

    def __init__(
        self,
        rooms: Rooms,
        statistics: ReconciliationStatistics,
        max_event_bytes: int,
        now_us: Callable[[], int],
    ) -> None:
        self._rooms = rooms
        self._statistics = statistics
        self._max_event_bytes = max_event_bytes
        self._now_us = now_us

    async def take(
        self, account: AskedAccount, job: JobInFlight, told: StatusAnswer
    ) -> Fate | None:
        """
        Write what an answer tells, if that is news.

        Args:
            account: Whose job.
            job: The job as it was before it was asked about.
            told: What dryAPI says of it.

        Returns:
            What is known of the job now. None if nothing is: it is to be asked about
            again.
        """
        step = _STEPS.get(told.status, _END)
        if told.event is None or step <= _STEPS.get(job.status, 0):
            return Fate.GOES_ON
        event = told.event
        if len(event) > self._max_event_bytes:
            event = without_extras(event)
        return await self._write(account, job, account.make(event, self._now_us()))

    async def _write(
        self, account: AskedAccount, job: JobInFlight, record: Record
    ) -> Fate | None:
        is_end = _STEPS.get(record.status or "", 0) == _END
        gap_ids: tuple[str, ...] = ()
        if is_end:
            gap_ids = self._rooms.gaps.healable(
                account.client_id, job.last_seen_us, None
            )
        try:
            # No deadline: an outbox without room takes it when it has some, and
            # nothing would be better by asking again meanwhile.
            is_written = await answer_of(
                self._rooms.outbox.heal(Healing(record, job, gap_ids))
            )
        except CancelledError:
            # The outbox ends, or begins anew with another file.
            return None
        if not is_written:
            # The socket, or a webhook, was faster. What it told, and whether that was
            # before the gap, is seen when the job is looked up again.
            self._statistics.superseded[account.client_id] += 1
            return None
        if record.status is None:
            # A dead letter: nobody who reads of jobs learns of this one's end.
            return Fate.UNKNOWN
        if not is_end:
            return Fate.GOES_ON
        self._statistics.healed[account.client_id] += 1
        self._rooms.gaps.healed(gap_ids, Origin.STATUS_ENDPOINT)
        return Fate.ENDED
