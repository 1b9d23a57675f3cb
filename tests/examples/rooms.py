"""From events and gaps to a topic, by the parts of the bridge that write it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from bridge.events import dead_letter
from bridge.events.intake import Intake
from bridge.gaps.ledger import Ledger
from bridge.kafka.relay.epoch import WireFormat
from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.examples.records import Job
from tests.kafka.relay.relaying import Rig, rig
from tests.rules.drawing import frame_of


Publish = Callable[[Sequence[Job]], Awaitable[None]]

CLIENT_ID = "client-42"
_SOURCE = f"https://api.dryapi.dev/clients/{CLIENT_ID}"


class Rooms:
    """Intake, outbox, relay and ledger of one account."""

    def __init__(self, running: Rig, intake: Intake, ledger: Ledger) -> None:
        self.ledger = ledger
        self.settled = running.nothing_waits
        self._intake = intake

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Take jobs' statuses all the way to the topic, with what goes beside it."""
        events = [frame_of(json.dumps(job), is_ascii=True) for job in jobs]
        self._intake.accept(events, time.time_ns() // 1000)
        await self.settled()


@asynccontextmanager
async def open_rooms(
    topic: Topic,
    folder: Path,
    *,
    previews: Literal["inline", "topic"] = "inline",
    framing: WireFormat | None = None,
) -> AsyncIterator[Rooms]:
    """Open the rooms around an outbox in a folder, for as long as the block runs."""
    preview_topic = f"{topic.name}.previews"
    groups = [topic.name, topic.dead_letter, topic.gaps]
    if previews == "topic":
        groups.append(preview_topic)
    late = partial(
        dead_letter.late,
        topic=topic.dead_letter,
        max_bytes=dead_letter.DEFAULT_MAX_BYTES,
    )
    settings = KafkaSettings(bootstrap_servers=topic.bootstrap_servers)
    async with rig(
        settings, groups, folder, wire_format=framing, refuse_late=late
    ) as running:
        ledger = Ledger(topic.gaps, {CLIENT_ID: _SOURCE}, running.outbox.keep)
        intake = Intake(
            ce_source=_SOURCE,
            topic=topic.name,
            dead_letter_topic=topic.dead_letter,
            offer=running.outbox.offer,
            previews=previews,
            preview_topic=preview_topic,
        )
        yield Rooms(running, intake, ledger)
