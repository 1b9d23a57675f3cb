"""
When topics are checked, and what follows from it.

All topics of a relay share one watch, so the log has one table of findings. A start
that fails reports every error at once. The checks are in `topic_checks`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec
import structlog

from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.relay.outage import BESIDE, Outage
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.kafka.requests import TopicFacts
from bridge.kafka.topic_checks import TopicFinding, Verdict, report
from bridge.kafka.topics import LookedUp, TopicNeeds, creation, look_up
from bridge.settings import KafkaSettings


__all__ = ["TopicWatch"]

_log = structlog.get_logger("bridge.kafka")


class TopicWatch(msgspec.Struct):
    """
    Checks the topics of a relay, for as long as one loop runs.

    Topics without needs aren't compared. Findings are logged once.
    """

    settings: KafkaSettings
    names: Sequence[str]
    needs: Mapping[str, TopicNeeds]
    statistics: RelayStatistics
    # What each topic was found to be like; replaced as a whole.
    findings: Mapping[str, Sequence[TopicFinding]] = msgspec.field(default_factory=dict)
    _asking: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    _looked_at: float = float("-inf")
    _found: LookedUp | KafkaError | ConfigError = LookedUp({})

    async def facts(self, name: str) -> TopicFacts:
        """Look at all topics; return one's metadata, or raise why it has none."""
        found = await self._look()
        if not isinstance(found, LookedUp):
            raise found
        if name not in found.facts:
            problem = found.problems.get(name)
            is_passing = isinstance(problem, KafkaUnreachableError)
            raise problem if problem and is_passing else self._refusal(found)
        return found.facts[name]

    def unfit(self, name: str) -> KafkaRefusedError | None:
        """Return why a start fails, if the topic can't be used for its purpose."""
        if any(one.verdict is Verdict.ERROR for one in self.findings.get(name, ())):
            return self._refusal(self._found)
        return None

    async def run(self, outage: Outage) -> None:
        """Look at intervals until cancelled, and note whether Kafka responded."""
        while True:
            await asyncio.sleep(self.settings.metadata_max_age_seconds)
            found = await self._look()
            if isinstance(found, LookedUp):
                outage.recovered(BESIDE)
            elif isinstance(found, ConfigError):
                # Files that are being rotated: what follows them reports it.
                _log.debug("topics.not_seen", error=f"{type(found).__name__}: {found}")
            elif outage.has_worked:
                # The partitions' own connections may work, but where nothing is sent
                # nothing else would notice. Before the first, opening reports it.
                is_refused = isinstance(found, KafkaRefusedError)
                event = "kafka.refuses" if is_refused else "kafka.unavailable"
                outage.failed(event, found, BESIDE)

    def shows_another(self, opened: TopicFacts) -> bool:
        """Whether a topic has to be opened again, for what the last look has shown."""
        found = self._found
        # It can't be opened again before it is there, and led.
        now = found.facts.get(opened.name) if isinstance(found, LookedUp) else None
        return now is not None and now.is_led and _differs(opened, now)

    async def _look(self) -> LookedUp | KafkaError | ConfigError:
        """Look at all topics; concurrent callers share the result."""
        asked_at = time.monotonic()
        async with self._asking:
            if self._looked_at < asked_at:
                self._found = await self._ask()
                self._looked_at = time.monotonic()
            return self._found

    async def _ask(self) -> LookedUp | KafkaError | ConfigError:
        settings, needs = self.settings, self.needs
        creations = {}
        if settings.create_topics:
            creations = {name: creation(name, needs, settings) for name in self.names}
        try:
            found = await look_up(settings, self.names, creations)
        except (ConfigError, KafkaError) as error:
            return error
        self._report(report(found, needs, settings))
        return found

    def _report(self, findings: Mapping[str, tuple[TopicFinding, ...]]) -> None:
        """Log the table: all of it first, then what has changed."""
        before = self.findings
        self.findings = self.statistics.topic_findings = findings
        rows = [
            finding
            for name, own in findings.items()
            for finding in own
            if finding not in before.get(name, ())
        ]
        if not rows:
            return
        counts = Counter(row.verdict for row in rows)
        is_bad = counts[Verdict.WARNING] or counts[Verdict.ERROR]
        write = _log.warning if is_bad else _log.info
        write(
            "topics.changed" if before else "topics.checked",
            ok=counts[Verdict.OK],
            warnings=counts[Verdict.WARNING],
            errors=counts[Verdict.ERROR],
            unknown=counts[Verdict.UNKNOWN],
            findings=[msgspec.to_builtins(row) for row in rows],
        )

    def _refusal(self, found: LookedUp | BridgeError) -> KafkaRefusedError:
        """Return everything that keeps the bridge from its work."""
        parts = []
        if isinstance(found, LookedUp):
            if found.missing:
                parts.append(_missing(found.missing))
            parts += (
                f"{one}."
                for one in found.problems.values()
                if isinstance(one, KafkaRefusedError)
            )
        parts += (
            f"The topic {one.topic} has {one.what}: {one.found}, needed: {one.needed}."
            f" {one.remedy}"
            for own in self.findings.values()
            for one in own
            if one.verdict is Verdict.ERROR and one.what != "topic"
        )
        return KafkaRefusedError(" ".join(parts))


def _differs(opened: TopicFacts, now: TopicFacts) -> bool:
    """Whether partitions that were opened for a topic don't fit what it is now."""
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
