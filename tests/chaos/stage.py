"""One scenario's topic, bridge and load.

Owns what every scenario begins and ends with. What happens in between belongs to
`kills` and `faults`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from tests.chaos.traffic import SteadyLoad
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.publisher import Soketi
from tests.kit.reader import Record, read_topic


__all__ = ["Options", "Servers", "Stage"]

PARTITIONS = 6

# A topic of 100,000 records takes 2 s.
_READ_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """
    What a run was asked for.

    Attributes:
        seed: What decides on everything that is left to chance.
        delivery: The bridge's mode.
        rate: Events a second.
    """

    seed: int
    delivery: str
    rate: float


@dataclass(frozen=True)
class Servers:
    """
    What the bridge stands between.

    Attributes:
        kafka: Where events go.
        soketi: Where they come from.
        api_url: A dryAPI that authorises everybody.
        pusher_url: Where the bridge finds soketi; None for soketi's own address.
    """

    kafka: KafkaServer
    soketi: Soketi
    api_url: str
    pusher_url: str | None = None


class Stage:
    """
    One scenario's topic, bridge and load.

    Args:
        name: The scenario's name; nothing else in the cluster has it.
        folder: Where the bridge gets its folder.
        servers: The servers.
        options: What the run was asked for.
        settings: Settings of the topic, by Kafka's names.
        replication_factor: Copies of the topic; -1 is the cluster's default.

    Attributes:
        topic: The topic; the account has the same name.
        channel: The account's channel.
        bridge: The bridge, which is not started.
        servers: The servers.
    """

    def __init__(  # noqa: PLR0917 - what a scenario consists of
        self,
        name: str,
        folder: Path,
        servers: Servers,
        options: Options,
        settings: Mapping[str, str] | None = None,
        replication_factor: int = -1,
    ) -> None:
        self.topic = name
        self.channel = f"private-client.{name}"
        self.servers = servers
        self._options = options
        for topic in (name, f"{name}.dlq", f"{name}.gaps"):
            servers.kafka.create_topic(
                topic,
                PARTITIONS if topic == name else 1,
                settings,
                # The others must not be what a scenario is about.
                replication_factor=replication_factor if topic == name else -1,
            )
        self.bridge = BridgeProcess(
            folder / name,
            name,
            {
                "CLIENT_ID": name,
                "API_TOKEN": "any",
                "API_URL": servers.api_url,
                "PUSHER_URL": servers.pusher_url or servers.soketi.url,
                "PUSHER_APP_KEY": servers.soketi.app.key,
                "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap_servers,
                "DELIVERY": options.delivery,
            },
        )

    @asynccontextmanager
    async def load(self) -> AsyncIterator[SteadyLoad]:
        """
        Keep up a steady load.

        Yields:
            The load; it is cancelled at the end unless it was stopped.
        """
        async with (
            self.servers.soketi.publisher() as publisher,
            trio.open_nursery() as nursery,
        ):
            load = SteadyLoad(
                publisher,
                self.channel,
                self._options.rate,
                Random(self._options.seed),
            )
            nursery.start_soon(load.run)
            yield load
            nursery.cancel_scope.cancel()

    async def records(self) -> list[Record]:
        """Read the topic to its end, as a consumer of committed records does."""
        return await self._read(self.topic)

    async def dead_letters(self) -> list[Record]:
        """Read the dead letters."""
        return await self._read(f"{self.topic}.dlq")

    async def gaps(self) -> list[Record]:
        """Read the ledger of gaps."""
        return await self._read(f"{self.topic}.gaps")

    async def _read(self, topic: str) -> list[Record]:
        return await trio.to_thread.run_sync(
            read_topic,
            self.servers.kafka.bootstrap_servers,
            topic,
            None,
            _READ_SECONDS,
        )
