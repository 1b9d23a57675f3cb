"""
What a topic's delivery knows of Kafka's failing: reported once, and so is its end.

A dozen partitions meet the same outage and try again every few seconds; whoever reads
the log needs one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.answers import forbidden
from bridge.kafka.relay.statistics import RelayStatistics


__all__ = ["Outage"]

_log = structlog.get_logger("bridge.kafka")

# A trouble that stays is told again after so long.
_REMIND_SECONDS = 60.0

# An idempotent producer of aiokafka hides a dead broker: it tries again for
# minutes and fails nothing. A loaded broker acknowledges within a second.
SILENT_SECONDS = 5.0

_Who = tuple[str, int]

# What fails beside the partitions: a connection of somebody else's.
_BESIDE: _Who = ("", -1)


class Outage:
    """
    What a topic knows of whether Kafka works.

    Args:
        topics: The group's topics, for the log.
        statistics: Where health reads it; None for a group that health leaves
            out.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        topics: Sequence[str],
        statistics: RelayStatistics | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = list(topics)
        self._statistics = statistics
        self._clock = clock
        self._sent_at: dict[_Who, float] = {}
        self._answered_at = clock()
        self._failing: set[_Who | None] = set()
        self._begun_at = 0.0
        self._told_at: dict[tuple[str, str], float] = {}
        self._owes_end = False
        self._reason: KafkaError | None = None

    def sending(self, partition: _Who) -> None:
        """Note that a partition waits for an answer from now on."""
        self._sent_at[partition] = self._clock()

    def worked(self, partition: _Who | None = None) -> None:
        """Note that Kafka answered a partition, or the group as a whole."""
        self._answered_at = self._clock()
        self._reason = None
        if partition is not None:
            self._sent_at.pop(partition, None)
        if self._statistics is not None:
            self._statistics.worked()
        if self._failing:
            self._failing -= {None, partition}
            self._tell_end()

    def failed(
        self,
        event: str,
        error: BaseException,
        partition: _Who | None = None,
        **fields: object,
    ) -> None:
        """
        Note that Kafka didn't do what was asked; log it unless that was told.

        Args:
            event: The log's event.
            error: What went wrong.
            partition: Whose failure it is; None for the group's.
            **fields: What the log shall show besides.
        """
        if partition is None:
            fields = {"topics": self._topics, **fields}
        else:
            self._sent_at.pop(partition, None)
            fields = {"topic": partition[0], "partition": partition[1], **fields}
        error = forbidden(error, None if partition is None else partition[0]) or error
        self._note(partition, event, error, fields)

    def shut_out(self, error: KafkaError) -> None:
        """
        Note that a connection beside those of the partitions came to nothing.

        Theirs may stand, and their next answer counts more; but where nothing is sent
        nobody else would notice. A group that health leaves out doesn't tell of it.
        """
        statistics = self._statistics
        # Before it has ever worked, whoever opens the partitions tells.
        if statistics is not None and statistics.ever_connected:
            is_refused = isinstance(error, KafkaRefusedError)
            event = "kafka.refuses" if is_refused else "kafka.waits"
            self._note(_BESIDE, event, error, {"topics": self._topics})

    def let_in(self) -> None:
        """Note that such a connection came about."""
        if _BESIDE not in self._failing:
            return
        self._failing.discard(_BESIDE)
        if not self._failing and self._statistics is not None:
            self._statistics.worked()
        self._tell_end()

    def _note(
        self,
        who: _Who | None,
        event: str,
        error: BaseException,
        fields: Mapping[str, object],
    ) -> None:
        now = self._clock()
        if self._statistics is not None:
            self._statistics.failed(error)
        if not self._failing:
            self._begun_at = now
        self._failing.add(who)
        kind = (event, type(error).__name__)
        told_at = self._told_at.get(kind)
        if told_at is None or now - told_at >= _REMIND_SECONDS:
            self._told_at[kind] = now
            self._owes_end = True
            _log.warning(event, error=f"{kind[1]}: {error}", **fields)

    def forget(self, partition: _Who) -> None:
        """Expect no answer for a partition any more."""
        self._sent_at.pop(partition, None)

    def recovered(self, partition: _Who) -> None:
        """Note that nothing of a partition waits: what failed was in the log."""
        if partition in self._failing:
            self.worked(partition)

    def look(self) -> None:
        """Notice that Kafka keeps partitions waiting for too long; called on a beat."""
        if not self.is_silent:
            return
        if isinstance(self._reason, KafkaRefusedError):
            self.failed("kafka.refuses", self._reason)
            return
        silent = f"no acknowledgement for {self._waited():.0f} s"
        if self._reason is not None:
            silent += f"; {self._reason}"
        self.failed("kafka.silent", TimeoutError(silent))

    @property
    def is_silent(self) -> bool:
        """Whether Kafka keeps partitions waiting for too long."""
        return self._waited() > SILENT_SECONDS

    def explain(self, reason: KafkaError) -> None:
        """Note what has been found out about a silence; the next answer ends it."""
        if self.is_silent:
            self._reason = reason

    def _waited(self) -> float:
        if not self._sent_at:
            return 0.0
        return self._clock() - max(min(self._sent_at.values()), self._answered_at)

    def _tell_end(self) -> None:
        if self._owes_end and not self._failing:
            self._owes_end = False
            _log.info(
                "kafka.works_again",
                topics=self._topics,
                after_seconds=round(self._clock() - self._begun_at, 1),
            )
