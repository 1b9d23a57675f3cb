"""The servers that a check goes to, started once for this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.check.ground import Ground, Servers
from tests.kit.authorities import Authority
from tests.kit.guarded import GuardedKafka
from tests.kit.publisher import Soketi
from tests.kit.secure_kafka import SecureKafka


@pytest.fixture(scope="package")
def guarded() -> Iterator[GuardedKafka]:
    """A broker with ACLs."""
    with GuardedKafka() as server:
        yield server


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA of the tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="package")
def fine_topics(guarded: GuardedKafka) -> dict[str, str]:
    """Topics that are as they should be, and the variables that name them."""
    return Ground.make_topics(guarded)


@pytest.fixture
def servers(
    soketi: Soketi,
    guarded: GuardedKafka,
    secure: SecureKafka,
    authority: Authority,
    fine_topics: dict[str, str],
) -> Iterator[Servers]:
    """All of them."""
    yield Servers(soketi, guarded, secure, authority, fine_topics)
    secure.provider.reset()


@pytest.fixture
def ground(tmp_path: Path, servers: Servers) -> Iterator[Ground]:
    """Surroundings in which all is well."""
    with ExitStack() as stack:
        yield Ground.make(tmp_path, servers, stack)
