"""Every producer is closed, whatever interrupts it."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the delivery runs in it
import uuid
from types import SimpleNamespace
from typing import cast

import pytest
from bridge.kafka.relay.delivery import Delivery
from bridge.kafka.relay.group import Group

from bridge.kafka.headers import HeaderWriter
from bridge.kafka.relay.idempotent import IdempotentDelivery
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.kafka.relay.transactional import TransactionalDelivery
from tests.conftest import Topic
from tests.kafka.relay.relaying import settings_for
from tests.kit.producers import unclosed_producers


@pytest.mark.parametrize("kind", [IdempotentDelivery, TransactionalDelivery])
def test_a_delivery_that_is_cancelled_while_it_closes_leaves_nothing_open(
    topic: Topic, kind: type[IdempotentDelivery | TransactionalDelivery]
) -> None:
    """A group that ends by itself may be cancelled by the failure of another one."""
    outbox_id = str(uuid.uuid4())
    group = SimpleNamespace(
        topics=(topic.name,),
        settings=settings_for(topic),
        outbox=SimpleNamespace(id=outbox_id),
        statistics=RelayStatistics(),
    )

    async def interrupted() -> None:
        made = kind(cast("Group", group), HeaderWriter(outbox_id))
        delivery: Delivery = made
        await delivery.prepare()
        closing = asyncio.create_task(delivery.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])

    asyncio.run(interrupted())
    assert unclosed_producers() == []
