"""Fixtures of the end-to-end tests: the scene, and its dryAPI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.conftest import Topic
from tests.e2e.auth_endpoint import AuthEndpoint
from tests.e2e.membership import Membership
from tests.e2e.scene import Account, Scene, start_sandbox
from tests.kit.broker import KafkaBroker
from tests.kit.publisher import Soketi


@pytest.fixture
def scene(
    tmp_path: Path, kafka: KafkaBroker, topic: Topic, soketi: Soketi
) -> Iterator[Scene]:
    """An account, its servers and its bridges, which show no token, come what may."""
    made = Scene(tmp_path, Account.new(), kafka, topic, soketi)
    yield made
    made.close()


@pytest.fixture
async def dryapi(nursery: trio.Nursery, scene: Scene) -> str:
    """The base URL of a dryAPI that authorises the account and emits nothing."""
    _, url = await start_sandbox(nursery, scene, rate=0, wait_for_subscriber=False)
    return url


@pytest.fixture
def membership(scene: Scene, tmp_path: Path) -> Membership:
    """Three accounts, and the bridge's files."""
    return Membership(scene.soketi, tmp_path, scene.more_accounts(3))


@pytest.fixture
def auth(membership: Membership) -> Iterator[AuthEndpoint]:
    """The dryAPI that knows them."""
    with AuthEndpoint(membership.answer).serving() as endpoint:
        yield endpoint
