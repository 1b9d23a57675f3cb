"""A board's permissions in Kafka: to read its topics, and no more."""

from __future__ import annotations

import math

import pytest
import trio
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.board.running import run
from bridge.settings import BoardSettings, KafkaSettings, Settings
from tests.board.records import Page, page_when
from tests.kafka.security.granting import documented
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest, Right
from tests.kit.secure_kafka import SecureKafka


# The board looks again after a few seconds at most, here.
_PATIENCE_SECONDS = 20.0


def _is_live(page: Page) -> bool:
    return page.figures["note"] is None and page.figures["reading"] == "live"


@pytest.mark.timeout(90)
async def test_a_board_needs_the_documented_rights_alone(secure: SecureKafka) -> None:
    """It reads its topics with them, and says which one it lacks the right on."""
    topic = topic_of(secure)
    besides = [topic.dead_letter, topic.gaps, f"{topic.name}.previews"]
    for name in besides:
        secure.create_topic(name, 1)
    guest = await trio.to_thread.run_sync(Guest, secure)
    rights = documented(topic.name, user="board")
    assert rights == [
        Right(ResourceType.TOPIC, name, AclOperation.READ)
        for name in (topic.name, *besides)
    ]
    await trio.to_thread.run_sync(
        guest.allow, *(right for right in rights if right.name != topic.gaps)
    )
    settings = Settings(
        topic=topic.name,
        previews="topic",
        kafka=KafkaSettings(**guest.settings()),  # type: ignore[arg-type]
        board=BoardSettings(listen="127.0.0.1:0"),
    )
    send_address, address = trio.open_memory_channel[str](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, settings, send_address.send_nowait)
        with trio.fail_after(3 * _PATIENCE_SECONDS):
            page = await address.receive()
            words = f"{topic.gaps} is missing, or this user may not read it."
            await trio.to_thread.run_sync(
                page_when,
                page,
                lambda now: now.figures["note"] == words,
                _PATIENCE_SECONDS,
            )
            gaps = [right for right in rights if right.name == topic.gaps]
            await trio.to_thread.run_sync(guest.allow, *gaps)
            await trio.to_thread.run_sync(page_when, page, _is_live, _PATIENCE_SECONDS)
        nursery.cancel_scope.cancel()
