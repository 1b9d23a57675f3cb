"""
An outage of Kafka, as a topic's delivery sees it: reported once, and so is its end.

A dozen partitions meet the same outage and retry every few seconds. The log has one
line for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from bridge.errors import (
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.answers import forbidden
from bridge.kafka.probe import diagnose
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.settings import KafkaSettings


__all__ = ["BESIDE", "Outage", "look_for_silence"]

_log = structlog.get_logger("bridge.kafka")

# A failure that lasts is reported again after so long.
_REMIND_SECONDS = 60.0

# An idempotent producer of aiokafka hides a dead broker: it tries again for minutes and
# fails nothing. A loaded broker acknowledges within a second.
SILENT_SECONDS = 5.0

# How often it is looked for a silence; and how long what was found out about it counts:
# brokers lock accounts that fail too often.
LOOK_SECONDS = 1.0
DIAGNOSE_SECONDS = 10.0

_Who = tuple[str, int]

# Who fails where a connection beside those of the partitions does.
BESIDE: _Who = ("", -1)


class Outage:
    """Whether Kafka works for one topic; without statistics if health ignores it."""

    def __init__(
        self,
        topic: str,
        statistics: RelayStatistics | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._statistics = statistics
        self._clock = clock
        self._sent_at: dict[_Who, float] = {}
        self._answered_at = clock()
        # None: the topic as a whole.
        self._failing: set[_Who | None] = set()
        self._begun_at = 0.0
        self._reported_at: dict[tuple[str, str], float] = {}
        self._owes_end = False
        # Whether Kafka answered since the start.
        self.has_worked = False

    def sending(self, partition: _Who) -> None:
        """Note that a partition waits for an answer from now on."""
        self._sent_at[partition] = self._clock()

    def forget(self, partition: _Who) -> None:
        """Expect no answer for a partition any more."""
        self._sent_at.pop(partition, None)

    def worked(self, who: _Who | None = None) -> None:
        """Note that Kafka answered a partition, or the topic as a whole."""
        self._answered_at = now = self._clock()
        self.has_worked = True
        if who is not None:
            self._sent_at.pop(who, None)
        if self._statistics is not None:
            self._statistics.worked()
        self._failing -= {None, who}
        if self._owes_end and not self._failing:
            self._owes_end = False
            seconds = round(now - self._begun_at, 1)
            _log.info("kafka.recovered", topic=self._topic, after_seconds=seconds)

    def recovered(self, who: _Who) -> None:
        """Note that nothing of a partition waits: what failed was in the log."""
        if who in self._failing:
            self.worked(who)

    def failed(
        self,
        event: str,
        error: BaseException,
        who: _Who | None = None,
        **fields: object,
    ) -> None:
        """Note that Kafka didn't do what was asked; log it unless that was reported."""
        if who is not None:
            self._sent_at.pop(who, None)
        if who not in {None, BESIDE}:
            fields["partition"] = who[1]
        error = forbidden(error, None if who is None else self._topic) or error
        if self._statistics is not None:
            self._statistics.failed(error)
        now = self._clock()
        if not self._failing:
            self._begun_at = now
        self._failing.add(who)
        kind = (event, type(error).__name__)
        if now - self._reported_at.get(kind, float("-inf")) >= _REMIND_SECONDS:
            self._reported_at[kind] = now
            self._owes_end = True
            _log.warning(
                event, topic=self._topic, error=f"{kind[1]}: {error}", **fields
            )

    @property
    def is_silent(self) -> bool:
        """Whether Kafka keeps partitions waiting for too long."""
        return self._waited() > SILENT_SECONDS

    def look(self, reason: KafkaError | None = None) -> None:
        """Report a silence, with its reason once that is known."""
        if not self.is_silent:
            return
        if isinstance(reason, KafkaRefusedError):
            self.failed("kafka.refuses", reason)
            return
        silent = f"no acknowledgement for {self._waited():.0f} s"
        if reason is not None:
            silent += f"; {reason}"
        self.failed("kafka.silent", TimeoutError(silent))

    def _waited(self) -> float:
        if not self._sent_at:
            return 0.0
        return self._clock() - max(min(self._sent_at.values()), self._answered_at)


async def look_for_silence(
    settings: KafkaSettings, outages: Collection[Outage]
) -> None:
    """
    Report it when Kafka is silent, and find out why, until it is cancelled.

    aiokafka tries again for minutes where a broker no longer lets it in, and reports
    nothing: a certificate that has expired, a token that is refused.
    """
    reason: KafkaError | None = None
    asked_at = float("-inf")
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not any(outage.is_silent for outage in outages):
            reason = None
            continue
        for outage in outages:
            outage.look(reason)
        if time.monotonic() - asked_at >= DIAGNOSE_SECONDS:
            try:
                reason = await diagnose(settings)
            except ConfigError as error:
                reason = KafkaUnreachableError(str(error))
            asked_at = time.monotonic()
