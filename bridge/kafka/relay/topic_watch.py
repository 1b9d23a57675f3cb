"""
When topics are looked at, and who is told what came of it.

All groups of a relay share one watch: what was found is one table in the log, and a
start that ends says everything that is wrong at once. What is right and wrong stands
in `topic_checks`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Collection, Iterable, Mapping

import msgspec
import structlog

from bridge.errors import (
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.relay.outage import Outage
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.kafka.topic_checks import TopicFinding, Verdict, report
from bridge.kafka.topics import LookedUp, TopicFacts, TopicNeeds, creation, look_up
from bridge.settings import KafkaSettings


__all__ = ["TopicWatch"]

_log = structlog.get_logger("bridge.kafka")

_Findings = Mapping[str, tuple[TopicFinding, ...]]


class TopicWatch:
    """
    Looks at the topics of a relay, for as long as one loop runs.

    Args:
        settings: How to reach Kafka, and what new topics are like.
        all_needs: What is wanted of topics; others are taken as they are.
        statistics: Where the findings are shown; what stands there was told before.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        all_needs: Mapping[str, TopicNeeds],
        statistics: RelayStatistics,
    ) -> None:
        self._settings = settings
        self._all_needs = all_needs
        self._statistics = statistics
        self._names: list[str] = []
        self._asking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._found: LookedUp | KafkaError | ConfigError = LookedUp({})
        # Replaced by a new one after each look.
        self._looked = asyncio.Event()

    def add(self, names: Iterable[str]) -> None:
        """Have topics looked at from now on."""
        self._names += (name for name in names if name not in self._names)

    async def facts(self, names: Collection[str]) -> dict[str, TopicFacts]:
        """
        Look at all topics, and give what is known of some.

        Whoever asks while somebody else does gets the same answer.

        Raises:
            KafkaUnreachableError: No broker answers, or none leads one of the topics.
            KafkaRefusedError: One of them is missing or forbidden; tells of all.
            ConfigError: A certificate or key can't be used.
        """
        found = await self._look()
        if isinstance(found, LookedUp):
            for name in names:
                problem = found.problems.get(name)
                if name not in found.facts:
                    # A refusal tells of all topics.
                    is_passing = isinstance(problem, KafkaUnreachableError)
                    raise problem if problem and is_passing else self._refusal()
            return {name: found.facts[name] for name in names}
        raise found

    def unfit(self, names: Collection[str]) -> KafkaRefusedError | None:
        """
        Tell whether some topics, which are there, can't take what they are meant for.

        Returns:
            What a start ends with that may end; it tells of all topics.
        """
        told = self._statistics.topic_findings
        if any(
            finding.verdict is Verdict.MISSING
            for name in names
            for finding in told.get(name, ())
        ):
            return self._refusal()
        return None

    async def run(self, outage: Outage) -> None:
        """
        Look now and then; ends only by being cancelled.

        Args:
            outage: Is told whether it was let in.
        """
        while True:
            await asyncio.sleep(self._settings.topics_check_seconds)
            found = await self._look()
            if isinstance(found, LookedUp):
                outage.let_in()
            elif isinstance(found, KafkaError):
                outage.shut_out(found)
            else:
                # Files that are being exchanged: whoever follows them tells.
                _log.debug("topics.not_seen", error=f"{type(found).__name__}: {found}")

    async def until_changed(self, opened: Mapping[str, TopicFacts]) -> None:
        """Wait until lanes have to be opened anew for what their topics are now."""
        while True:
            # No deadline: most topics never change. `run` looks.
            await self._looked.wait()
            found = self._found
            if isinstance(found, LookedUp) and any(
                _is_another(facts, found.facts.get(name))
                for name, facts in opened.items()
            ):
                return

    async def _look(self) -> LookedUp | KafkaError | ConfigError:
        asked_at = time.monotonic()
        async with self._asking:
            if self._looked_at < asked_at:
                self._found = await self._ask()
                self._looked_at = time.monotonic()
                looked, self._looked = self._looked, asyncio.Event()
                looked.set()
            return self._found

    async def _ask(self) -> LookedUp | KafkaError | ConfigError:
        settings = self._settings
        creations = {}
        if settings.create_topics:
            creations = {
                name: creation(name, self._all_needs, settings) for name in self._names
            }
        try:
            found = await look_up(settings, self._names, creations)
        except (ConfigError, KafkaError) as error:
            return error
        self._tell(report(found, self._all_needs, settings))
        return found

    def _tell(self, findings: _Findings) -> None:
        """Log the table: all of it first, then what has changed."""
        before = self._statistics.topic_findings
        self._statistics.topic_findings = findings
        rows = [
            finding
            for name, own in findings.items()
            for finding in own
            if finding not in before.get(name, ())
        ]
        if not rows:
            return
        counts = {
            verdict.value: sum(row.verdict is verdict for row in rows)
            for verdict in Verdict
        }
        is_bad = counts[Verdict.DANGEROUS] or counts[Verdict.MISSING]
        write = _log.warning if is_bad else _log.info
        write(
            "topics.changed" if before else "topics.checked",
            **counts,
            findings=[msgspec.to_builtins(row) for row in rows],
        )

    def _refusal(self) -> KafkaRefusedError:
        """Say everything that keeps the bridge from its work."""
        parts = []
        if isinstance(self._found, LookedUp):
            if self._found.missing:
                parts.append(_missing(self._found.missing))
            parts += (
                str(one)
                for one in self._found.problems.values()
                if isinstance(one, KafkaRefusedError)
            )
        parts += (
            f"The topic {one.topic} has {one.what} {one.found}, and {one.needed} is"
            f" needed. {one.remedy}"
            for own in self._statistics.topic_findings.values()
            for one in own
            if one.verdict is Verdict.MISSING and one.what != "topic"
        )
        return KafkaRefusedError(" ".join(parts))


def _is_another(opened: TopicFacts, now: TopicFacts | None) -> bool:
    """Whether lanes that were opened for a topic don't fit what it is now."""
    if now is None or not now.is_led:
        # They can't be opened again before it is there, and led.
        return False
    if None not in {opened.topic_id, now.topic_id} and opened.topic_id != now.topic_id:
        return True
    if opened.partitions != now.partitions:
        return True
    return now.configs is not None and opened.max_message_bytes != now.max_message_bytes


def _missing(names: Collection[str]) -> str:
    many = len(names) > 1
    it = "them" if many else "it"
    return (
        f"Kafka has no topic{'s' if many else ''} {' and '.join(names)}, or this user"
        f" may not see {it}. Create {it}, or let the bridge do so with"
        " kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true)."
    )
