"""What happens to brokers while the bridge works, one class of fault after the other.

Owns the faults: who is killed, stopped or frozen, for how long, and which partitions
that touches. What is measured around them belongs to `course`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio
from confluent_kafka.admin import AdminClient

from tests.chaos.stage import Stage


__all__ = ["FAULTS", "NODES", "Fault", "partitions_led_by"]

NODES = 3

# As long as an outage takes, by the goal that this measures.
_OUTAGE_SECONDS = 60.0
_STANDSTILL_SECONDS = 30.0

# Between two brokers' deaths: the first must be back in all replica sets.
_SETTLE_SECONDS = 8.0

_ADMIN_SECONDS = 10.0


@dataclass(frozen=True)
class Fault:
    """
    A fault, from its begin to the moment when the cluster is whole again.

    Attributes:
        name: Its short name.
        meaning: A phrase for the report.
        go: Lets it happen, and ends when everything runs again.
        settings: Settings of the topic.
        replication_factor: Copies of the topic.
        leader: The broker whose partitions it touches; None for all partitions.
    """

    name: str
    meaning: str
    go: Callable[[Stage], Awaitable[None]]
    settings: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = -1
    leader: int | None = None


def partitions_led_by(stage: Stage, node: int) -> list[int]:
    """Give the partitions of a topic that a node leads."""
    admin = AdminClient({"bootstrap.servers": stage.servers.kafka.bootstrap_servers})
    topic = admin.list_topics(stage.topic, timeout=_ADMIN_SECONDS).topics[stage.topic]
    return sorted(
        number for number, each in topic.partitions.items() if each.leader == node
    )


async def _kill_in_turn(stage: Stage) -> None:
    kafka = stage.servers.kafka
    for node in range(1, NODES + 1):
        await trio.to_thread.run_sync(kafka.kill, node)
        await trio.sleep(_SETTLE_SECONDS)
        await trio.to_thread.run_sync(kafka.start, node)
        await trio.sleep(_SETTLE_SECONDS)


async def _all_away(stage: Stage) -> None:
    kafka = stage.servers.kafka
    await trio.to_thread.run_sync(kafka.kill)
    await trio.sleep(_OUTAGE_SECONDS)
    await trio.to_thread.run_sync(kafka.start)


async def _killed(node: int, stage: Stage) -> None:
    kafka = stage.servers.kafka
    await trio.to_thread.run_sync(kafka.kill, node)
    await trio.sleep(_STANDSTILL_SECONDS)
    await trio.to_thread.run_sync(kafka.start, node)


async def _stopped(nodes: Sequence[int], stage: Stage) -> None:
    kafka = stage.servers.kafka
    for node in nodes:
        await trio.to_thread.run_sync(kafka.stop, node)
    await trio.sleep(_STANDSTILL_SECONDS)
    await trio.to_thread.run_sync(kafka.start)


async def _frozen(node: int, stage: Stage) -> None:
    kafka = stage.servers.kafka
    kafka.pause(node)
    try:
        await trio.sleep(_STANDSTILL_SECONDS)
    finally:
        kafka.resume(node)


FAULTS = (
    Fault("in-turn", "each broker killed and restarted in turn", _kill_in_turn),
    Fault("all-away", "all three brokers killed, for 60 s", _all_away),
    Fault(
        "leaderless",
        "the only replica of some partitions killed, for 30 s",
        partial(_killed, 2),
        settings={"min.insync.replicas": "1"},
        replication_factor=1,
        leader=2,
    ),
    Fault(
        "two-stopped",
        "two of three brokers stopped, for 30 s",
        partial(_stopped, (1, 2)),
    ),
    Fault(
        "few-insync",
        "one broker stopped, for 30 s, where three must be in sync",
        partial(_stopped, (1,)),
        settings={"min.insync.replicas": "3"},
    ),
    Fault(
        "frozen", "one of three brokers frozen, for 30 s", partial(_frozen, 2), leader=2
    ),
    Fault(
        "frozen-leader",
        "the only replica of some partitions frozen, for 30 s",
        partial(_frozen, 2),
        settings={"min.insync.replicas": "1"},
        replication_factor=1,
        leader=2,
    ),
)
