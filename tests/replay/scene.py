"""A topic, its dead letters and a replay between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bridge.consumer.replay import Choice, Replayed, replay
from bridge.consumer.replay_outbox import directory_of
from bridge.settings import KafkaSettings, OutboxSettings, Settings, TopicSettings
from tests.conftest import Topic
from tests.consumer.letters import Sent, write
from tests.kit.reader import Record, read_topic


DEADLINE_SECONDS = 40.0


@dataclass(frozen=True)
class Scene:
    """One test's topics and directories."""

    topic: Topic
    folder: Path

    def settings(self, **more: Any) -> Settings:
        """Give the settings of a bridge for the topic."""
        return replace(
            Settings(
                topic=self.topic.name,
                topics=TopicSettings(),
                kafka=KafkaSettings(
                    bootstrap_servers=self.topic.bootstrap_servers,
                    # A wait that is long for people's sake, and for nothing here.
                    resume_quiet_seconds=0.1,
                ),
                outbox=OutboxSettings(dir=self.folder / "outbox"),
            ),
            **more,
        )

    async def write(self, *records: Sent, name: str | None = None) -> None:
        """Write dead letters, or records of another topic."""
        await trio.to_thread.run_sync(partial(write, self.topic, records, name=name))

    async def replay(
        self, settings: Settings | None = None, **choices: Any
    ) -> Replayed:
        """Replay as the command does."""
        settings = settings or self.settings()
        with trio.fail_after(DEADLINE_SECONDS):
            return await replay(
                settings,
                Choice(self.topic.dead_letter, self.topic.name, **choices),
                directory_of(settings, None),
            )

    async def outcomes(
        self, settings: Settings | None = None, **choices: Any
    ) -> dict[str, int]:
        """Replay, and give what became of the letters of those outcomes there are."""
        done = await self.replay(settings, **choices)
        assert (done.trouble, done.waiting) == (None, 0)
        return {outcome.value: n for outcome, n in done.outcomes.items() if n}

    async def read(self, name: str | None = None) -> list[Record]:
        """Read the topic of jobs, or another one, to its end."""
        return await trio.to_thread.run_sync(
            read_topic,
            self.topic.bootstrap_servers,
            name or self.topic.name,
            None,
            DEADLINE_SECONDS,
        )

    async def sources(self) -> Counter[bytes]:
        """Count how often each letter's event is on the topic of jobs."""
        return Counter(
            record.headers["bridge_replayed_ce_id"]
            for record in await self.read()
            if "bridge_replayed_ce_id" in record.headers
        )
