"""
Resuming a lane: what does the log hold, and is it still the one that it was?

After a failure nobody knows what of the batches on their way was appended. So a
lane waits until nothing can land any more, reads the end of its partition's log,
and goes on after what is there.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Collection

import msgspec
import structlog

from bridge.errors import ConfigError, KafkaError
from bridge.kafka.asking import answer
from bridge.kafka.relay.cut import first_missing
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.log import Bounds, Log, open_log
from bridge.kafka.relay.statistics import add
from bridge.kafka.relay.tails import LogTail, ScanFrom, scan


__all__ = [
    "Backoff",
    "TopicReplacedError",
    "let_land",
    "resume",
    "settle",
    "verify",
]

_log = structlog.get_logger("bridge.kafka")

# The longest wait between two tries while Kafka can't be used: what a lane may
# lose of the time after an outage.
_LONGEST_PAUSE_SECONDS = 10.0


class TopicReplacedError(Exception):
    """A topic isn't the one that lanes were opened for: open its group's again."""


class Backoff:
    """
    The wait before another try, doubling.

    Args:
        first_seconds: The first wait.
    """

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self.failures = 0

    def next(self) -> float:
        """Count a failure and give the seconds to wait; none after the first."""
        self.failures += 1
        if self.failures == 1:
            return 0.0
        # 2**8 times any backoff is beyond the longest pause.
        seconds = self._first_seconds * (1 << min(self.failures, 8))
        return min(seconds, _LONGEST_PAUSE_SECONDS)

    def reset(self) -> None:
        """Note that it worked."""
        self.failures = 0


async def resume(
    group: Group, lane: Lane, backoff: Backoff, *, quiet_seconds: float
) -> None:
    """
    Learn what the log holds of a lane; tried until Kafka answers.

    Args:
        group: What the lane shares with others.
        lane: The lane.
        backoff: The lane's; its first wait is due.
        quiet_seconds: How long a late write may still land; 0 if none can.

    Raises:
        TopicReplacedError: The log is another topic's.
    """
    lane.forget()
    topic, partition = lane.key
    pause_seconds = backoff.next()
    while True:
        await asyncio.sleep(pause_seconds)
        try:
            async with open_log(group.settings, topic) as log:
                await let_land(log, [partition], quiet_seconds)
                start = lane.start
                tails = await scan(log, group.outbox.id, {partition: start})
                # Where nothing was acknowledged yet, no record tells it.
                await _check_topic(log, lane)
                await settle(group, lane, log, start, tails[partition])
        except (ConfigError, KafkaError) as error:
            group.outage.failed("lane.waits", error, lane.key)
            pause_seconds = backoff.next()
        else:
            break
    group.outage.worked()
    _log.debug(
        "lane.resumes",
        topic=topic,
        partition=partition,
        next_sequence=lane.next_sequence,
        found_in_log=len(lane.found),
    )


async def let_land(log: Log, partitions: Collection[int], quiet_seconds: float) -> None:
    """
    Wait until a write that nobody waits for any more has landed, or never will.

    Args:
        log: The topic's log.
        partitions: Which may get such a write.
        quiet_seconds: How long that may take, counted from when their leaders
            answer: what stood in their queues before our question is appended
            within that time.
    """
    await log.bounds(partitions)
    await asyncio.sleep(quiet_seconds)
    await log.replicated(partitions)


async def verify(
    group: Group,
    lane: Lane,
    start: ScanFrom,
    connection: object | None,
    *,
    held_seconds: float | None = None,
) -> None:
    """
    See that the log still has what it acknowledged before its last answer.

    Args:
        group: What the lane shares with others.
        lane: The lane; it has taken the answer over.
        start: What it knew of the log before.
        connection: Over which the answer came.
        held_seconds: How long an open transaction is waited for: see `open_log`.

    Raises:
        TopicReplacedError: The log is another topic's.
        BridgeError: As `open_log` says; nothing counts as verified then.
    """
    topic, partition = lane.key
    # What it has acknowledged since isn't looked for.
    start = msgspec.structs.replace(start, acknowledged_sequence=lane.next_sequence - 1)
    async with open_log(group.settings, topic, held_seconds=held_seconds) as log:
        tails = await scan(log, group.outbox.id, {partition: start})
        await settle(group, lane, log, start, tails[partition])
    lane.verified(connection)


async def settle(
    group: Group,
    lane: Lane,
    log: Log,
    start: ScanFrom,
    tail: LogTail,
) -> None:
    """
    Take over what the log shows; send again what it has lost.

    Args:
        group: What the lane shares with others.
        lane: The lane.
        log: Its topic's log.
        start: From where on it was read.
        tail: What it showed.

    Raises:
        TopicReplacedError: The log is another topic's.
        BridgeError: As `open_log` says.
    """
    lane.found = tail.offsets
    lane.trimmed = _trimmed(lane, start, tail)
    if tail.confirms(start):
        lane.verified()
        return
    topic, partition = lane.key
    await _check_topic(log, lane)
    bounds = Bounds(tail.begin_offset, tail.end_offset)
    missing = await first_missing(log, group.outbox, topic, partition, bounds)
    if missing is None and not tail.contradicts(start):
        # Compacted away, which takes nothing that wasn't delivered.
        lane.verified()
        return
    if missing is None:
        # What was lost is no longer kept. What the log has needs no second time.
        lane.verified()
        while lane.found and lane.waiting and await lane.gather():
            if not lane.skip_found():
                break
        sequence = lane.next_sequence - 1
    else:
        # Rows that were written where lost ones stood, before that was noticed, are
        # sent again as well, in order and marked.
        again = ScanFrom(missing.offset, lane.next_sequence - 1, None, lane.last)
        tail = (await scan(log, group.outbox.id, {partition: again}))[partition]
        sequence = missing.sequence - 1
    last = max(lane.next_sequence - 1, tail.highest_sequence)
    waiting = await answer(
        group.outbox.rewind(topic, partition, sequence, tail.end_offset, last)
    )
    lane.rewind(sequence, tail.end_offset, last)
    add(group.statistics.resent, topic, waiting)
    _log.error(
        "lane.log_cut",
        topic=topic,
        partition=partition,
        log_end=tail.end_offset,
        acknowledged_offset=start.offset,
        sent_again=waiting,
        first_sequence=sequence + 1,
        last_sequence=last,
    )


def _trimmed(lane: Lane, start: ScanFrom, tail: LogTail) -> tuple[int, int]:
    """
    Tell up to which row retention took what nobody has seen in the log.

    Rows are written in order: those of one batch that are missing before the first
    one that is left stood where retention has been meanwhile. What another process
    wrote doesn't say so. A row that it put aside, of an outbox that has lost this
    since (a loss of power, a copy that was put back), is missing in the same way:
    it has to be offered again, or it is nowhere.
    """
    is_ours = tail.first_sequence <= lane.offered_sequence
    if start.offset is None or start.offset >= tail.begin_offset or not is_ours:
        return 0, 0
    return tail.first_sequence - 1, tail.begin_offset - 1


async def _check_topic(log: Log, lane: Lane) -> None:
    topic_id = await log.topic_id()
    if topic_id is not None and topic_id != lane.facts.topic_id is not None:
        raise TopicReplacedError(lane.facts.name)
