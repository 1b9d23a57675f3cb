"""What one end-to-end test plays with: an account, its servers, its bridges.

Owns what these are made of and their end. What happens on the scene is for the
tests; the parts themselves stand in the modules beside this one.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import trio

from bridge.sandbox import Sandbox, SandboxConfig
from tests.conftest import Topic
from tests.e2e.gap_records import bounds_of
from tests.e2e.jobs import Load
from tests.e2e.topic_records import read
from tests.kit.bridge_process import BridgeProcess
from tests.kit.broker import KafkaBroker
from tests.kit.publisher import Soketi
from tests.kit.reader import Record


__all__ = ["Account", "Scene", "start_sandbox"]


@dataclass(frozen=True)
class Account:
    """
    An account of dryAPI that no other test uses.

    Attributes:
        client_id: Its name.
        channel: Its channel.
        token: Its API token, which must turn up nowhere.
    """

    client_id: str
    channel: str
    token: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Make an account that nobody else has."""
        client_id = f"client-{secrets.token_hex(4)}"
        token = f"canary-{secrets.token_hex(12)}"
        return cls(client_id, f"private-client.{client_id}", token)


class Scene:
    """
    One test's account, servers and bridges.

    Attributes:
        account: Whose events flow.
        kafka: Where they go.
        topic: The topic that they go to.
        soketi: Where they come from.
    """

    def __init__(
        self,
        folder: Path,
        account: Account,
        kafka: KafkaBroker,
        topic: Topic,
        soketi: Soketi,
    ) -> None:
        self.account = account
        self.kafka = kafka
        self.topic = topic
        self.soketi = soketi
        self._folder = folder
        self._made: list[BridgeProcess] = []
        self._tokens = {account.token}

    def more_accounts(self, count: int) -> list[Account]:
        """Make accounts beside the scene's, whose tokens no bridge may show either."""
        accounts = [Account.new() for _ in range(count)]
        self._tokens.update(account.token for account in accounts)
        return accounts

    def bridge(
        self,
        api_url: str,
        *,
        topic: str | None = None,
        wrapper: Sequence[str] = (),
        flags: Sequence[str] = (),
        **settings: object,
    ) -> BridgeProcess:
        """
        Describe a bridge between the scene's soketi and its topic.

        Args:
            api_url: Where its dryAPI is.
            topic: Another topic than the scene's.
            wrapper: A command that ends in executing what follows it.
            flags: More of its command line.
            settings: More settings, or others, by their names; None for none.
        """
        usual = {
            "client_id": self.account.client_id,
            "api_token": self.account.token,
            "api_url": api_url,
            "pusher_url": self.soketi.url,
            "pusher_app_key": self.soketi.app.key,
            "kafka_bootstrap_servers": self.topic.bootstrap_servers,
            # Waits that are long for people's sake, and for nothing here.
            "kafka_retry_backoff_seconds": 0.1,
            "pusher_backoff_initial_seconds": 0.1,
        }
        environment = {
            name.upper(): str(value)
            for name, value in (usual | settings).items()
            if value is not None
        }
        bridge = BridgeProcess(
            self._folder / f"bridge-{len(self._made) + 1}",
            topic or self.topic.name,
            environment,
            wrapper,
            flags,
        )
        self._made.append(bridge)
        return bridge

    @asynccontextmanager
    async def load(
        self,
        reader: BridgeProcess | None = None,
        *,
        account: Account | None = None,
        steady: bool = False,
    ) -> AsyncIterator[Load]:
        """
        Publish on an account's channel.

        Args:
            reader: As `Load` takes it.
            account: Another account than the scene's.
            steady: Whether jobs run from now on until the load's `stop`.

        Yields:
            The load; whatever it still does is cancelled at the end.
        """
        async with self.soketi.publisher() as publisher, trio.open_nursery() as nursery:
            load = Load(publisher, (account or self.account).channel, reader)
            if steady:
                nursery.start_soon(load.keep_running)
            yield load
            nursery.cancel_scope.cancel()

    async def records(self, expected: int | None = None) -> list[Record]:
        """Read the topic to its end, waiting for at least so many records."""
        return await read(self.kafka, self.topic.name, expected)

    async def dead_letters(self, expected: int | None = None) -> list[Record]:
        """Read the dead letters in the same way."""
        return await read(self.kafka, self.topic.dead_letter, expected)

    async def gaps(self, expected: int | None = None) -> list[Record]:
        """
        Read the ledger of gaps in the same way.

        What is waited for are records that open or close a gap: when it comes out what
        became of its jobs is another matter.
        """
        records = await read(self.kafka, self.topic.gaps, expected)
        while (missing := (expected or 0) - len(bounds_of(records))) > 0:
            count = len(records) + missing
            records = await read(self.kafka, self.topic.gaps, count)
        return records

    def close(self) -> None:
        """Kill what still runs, and look at everything that was said."""
        for bridge in self._made:
            bridge.kill()
        for bridge in self._made:
            output = bridge.all_output
            assert not [token for token in self._tokens if token in output]
            assert "Traceback" not in output
            # Where a log line would hold one.
            assert '"exception":' not in output


async def start_sandbox(
    nursery: trio.Nursery, scene: Scene, **options: Any
) -> tuple[Sandbox, str]:
    """Start a dryAPI for the scene's account and soketi; give its base URL too."""
    config = SandboxConfig(
        listen="127.0.0.1:0",
        client_id=scene.account.client_id,
        api_token=scene.account.token,
        pusher_url=scene.soketi.url,
        app_id=scene.soketi.app.id,
        app_key=scene.soketi.app.key,
        app_secret=scene.soketi.app.secret,
        **options,
    )
    sandbox = Sandbox(config)

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        await sandbox.serve(task_status=task_status)

    return sandbox, await nursery.start(serve)
