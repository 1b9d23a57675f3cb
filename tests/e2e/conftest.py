"""Fixtures of the end-to-end tests: the scene, its dryAPI, and proxies."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trio

from tests.conftest import Topic
from tests.e2e.scene import Account, Scene
from tests.kit.broker import KafkaBroker
from tests.kit.dryapi import DryApi
from tests.kit.publisher import Soketi
from tests.kit.pusher_proxy import PusherProxy


_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test's body passed."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def scene(
    tmp_path: Path,
    kafka: KafkaBroker,
    topic: Topic,
    soketi: Soketi,
    request: pytest.FixtureRequest,
) -> Iterator[Scene]:
    """An account, its servers and its bridges; the test must end and judge it."""
    made = Scene(tmp_path, Account.new(), kafka, topic, soketi)
    yield made
    made.close()
    assert made.ended or not request.node.stash.get(_PASSED, False), "not judged"


@pytest.fixture
def api(scene: Scene) -> Iterator[DryApi]:
    """A dryAPI that knows the scene's account, and obeys the test."""
    accounts = {scene.account.client_id: scene.account.token}
    with DryApi(scene.soketi, accounts).serving() as made:
        yield made


@pytest.fixture
def dryapi(api: DryApi) -> str:
    """Its base URL."""
    return api.url


@pytest.fixture
async def pusher_proxy(nursery: trio.Nursery, scene: Scene) -> PusherProxy:
    """A proxy in front of the scene's soketi."""
    proxy = PusherProxy(scene.soketi.url)
    await nursery.start(proxy.serve)
    return proxy


@pytest.fixture
def preview_topic(kafka: KafkaBroker, topic: Topic) -> str:
    """The topic of previews beside the test's own topic."""
    name = f"{topic.name}.previews"
    kafka.create_topic(name, topic.partitions, {"cleanup.policy": "compact"})
    return name
