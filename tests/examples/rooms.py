"""From events and gaps to a topic, by the parts of the bridge that write it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import trio

from bridge.events import dead_letter
from bridge.events.intake import Intake
from bridge.gaps.ledger import Ledger
from bridge.kafka.relay.epoch import WireFormat
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import KafkaSettings, OutboxSettings
from tests.conftest import Topic
from tests.examples.records import Job
from tests.kafka.relay.relaying import until
from tests.rules.drawing import frame_of


Publish = Callable[[Sequence[Job]], Awaitable[None]]

CLIENT_ID = "client-42"
_SOURCE = f"https://api.dryapi.dev/clients/{CLIENT_ID}"


class Rooms:
    """Intake, outbox, relay and ledger of one account."""

    def __init__(self, outbox: Outbox, intake: Intake, ledger: Ledger) -> None:
        self.ledger = ledger
        self._outbox = outbox
        self._intake = intake

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Take jobs' statuses all the way to the topic, with what goes beside it."""
        events = [frame_of(json.dumps(job), is_ascii=True) for job in jobs]
        self._intake.accept(events, time.time_ns() // 1000)
        await self.settled()

    async def settled(self) -> None:
        """Wait until Kafka has all that there is."""
        await until(
            lambda: self._outbox.is_drained and self._outbox.statistics.rows == 0
        )


@asynccontextmanager
async def open_rooms(
    topic: Topic,
    folder: Path,
    *,
    previews: Literal["inline", "topic"] = "inline",
    framing: WireFormat | None = None,
) -> AsyncIterator[Rooms]:
    """Open the rooms around an outbox in a folder, for as long as the block runs."""
    settings = OutboxSettings(dir=folder)
    preview_topic = f"{topic.name}.previews"
    groups = [topic.name, topic.dead_letter, topic.gaps]
    if previews == "topic":
        groups.append(preview_topic)
    with OutboxDirectory(folder) as directory:
        outbox = Outbox(
            directory,
            settings,
            refuse_late=partial(
                dead_letter.late,
                topic=topic.dead_letter,
                max_bytes=dead_letter.DEFAULT_MAX_BYTES,
            ),
        )
        relay = Relay(
            KafkaSettings(bootstrap_servers=topic.bootstrap_servers),
            groups,
            outbox,
            wire_format=framing,
        )
        ledger = Ledger(topic.gaps, {CLIENT_ID: _SOURCE}, outbox.keep)
        intake = Intake(
            ce_source=_SOURCE,
            topic=topic.name,
            dead_letter_topic=topic.dead_letter,
            offer=outbox.offer,
            previews=previews,
            preview_topic=preview_topic,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            yield Rooms(outbox, intake, ledger)
            relay.drain()
