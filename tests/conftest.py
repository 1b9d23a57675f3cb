"""Fixtures that every test may ask for, and the real servers that some tests need.

Owns when the servers start and end: at the first test that asks for them, once a
run, whatever becomes of the tests. How they start belongs to `tests.kit`; what
only one folder's tests need belongs into that folder's own conftest.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import hypothesis
import pytest
import structlog

from bridge.operations import redaction
from tests.kit import broker, downloads, publisher
from tests.kit.broker import BrokerError, KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError
from tests.kit.publisher import Soketi, SoketiSettingError, existing_soketi
from tests.kit.registry import RegistryServer
from tests.kit.secure_kafka import SecureKafka
from tests.kit.soketi import SoketiServer


# Other processes may hold the processors: how long an input takes says nothing of it.
hypothesis.settings.register_profile(
    "bridge", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("bridge")

_FAILURES = pytest.StashKey[dict[str, downloads.FetchError]]()

# Enough to tell partitions apart, and few enough to be filled by 50 jobs.
_PARTITIONS = 3


@dataclass(frozen=True)
class Topic:
    """A fresh topic, its dead-letter topic and its ledger of gaps.

    Attributes:
        name: The topic's name.
        dead_letter: The dead-letter topic's name: `{name}.dlq`, one partition.
        gaps: The name of the topic of gaps: `{name}.gaps`, one partition.
        partitions: How many partitions the topic has.
        bootstrap_servers: Where to reach its broker.
    """

    name: str
    dead_letter: str
    gaps: str
    partitions: int
    bootstrap_servers: str


@pytest.hookimpl(tryfirst=True)  # before -m "not connected" chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that stand on a real server."""
    for item in items:
        if {"kafka", "secure", "soketi", "registry"} & _fixtures(item):
            item.add_marker(pytest.mark.connected)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download what the chosen tests need, outside of any test's deadline."""
    if session.config.option.collectonly:
        return
    needed = set().union(*(_fixtures(item) for item in session.items))
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    progress = reporter.write_line if reporter else downloads.to_stderr
    failures = session.config.stash.setdefault(_FAILURES, {})
    fetches: dict[str, Callable[[downloads.Progress], object]] = {}
    if not os.environ.get(broker.EXISTING_VARIABLE):
        fetches["kafka"] = downloads.fetch_kafka
    if not os.environ.get(publisher.EXISTING_VARIABLE):
        fetches["soketi"] = downloads.fetch_soketi
    fetches["secure"] = downloads.fetch_kafka
    fetches["registry"] = downloads.fetch_registry
    for fixture in needed & fetches.keys():
        try:
            fetches[fixture](progress)
        except downloads.FetchError as error:
            # The other tests run; those that need the server fail with it.
            failures[fixture] = error


def _raise_failure(config: pytest.Config, fixture: str) -> None:
    """Raise what kept a server from being fetched before the tests began.

    Raises:
        FetchError: It could not be fetched. A second try would only take long.
    """
    error = config.stash.get(_FAILURES, {}).get(fixture)
    if error is not None:
        raise error


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[KafkaBroker]:
    """A real Kafka: the suite's own, or the one that BRIDGE_TEST_KAFKA names."""
    try:
        existing = existing_kafka()
        if existing:
            existing.check()
            yield existing
            return
        _raise_failure(pytestconfig, "kafka")
        server = KafkaServer()
        server.__enter__()
    except (BrokerError, downloads.FetchError, ProcessError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def soketi(pytestconfig: pytest.Config) -> Iterator[Soketi]:
    """A real soketi: the suite's own, or the one that BRIDGE_TEST_SOKETI names."""
    try:
        existing = existing_soketi()
        if existing:
            if not existing.answers():
                pytest.fail(f"no soketi answers at {existing.url}", pytrace=False)
            yield existing
            return
        _raise_failure(pytestconfig, "soketi")
        server = SoketiServer()
        server.__enter__()
    except (SoketiSettingError, downloads.FetchError, ProcessError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def registry(pytestconfig: pytest.Config) -> Iterator[RegistryServer]:
    """A real Schema Registry: Apicurio's, which speaks Confluent's API."""
    try:
        _raise_failure(pytestconfig, "registry")
        server = RegistryServer()
        server.__enter__()
    except (downloads.FetchError, ProcessError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def secure(pytestconfig: pytest.Config) -> Iterator[SecureKafka]:
    """A real Kafka of the suite's own, with a listener for each way to sign in."""
    try:
        _raise_failure(pytestconfig, "secure")
        server = SecureKafka()
        server.__enter__()
    except (downloads.FetchError, ProcessError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def own_kafka(kafka: KafkaBroker) -> Iterator[KafkaServer]:
    """The suite's Kafka for a test that stops, kills or pauses it; runs afterwards."""
    if not isinstance(kafka, KafkaServer):
        pytest.skip(
            f"{broker.EXISTING_VARIABLE} names a broker that must not be stopped"
        )
    yield kafka
    kafka.resume()
    kafka.start()


@pytest.fixture
def own_soketi(soketi: Soketi) -> Iterator[SoketiServer]:
    """The suite's soketi for a test that stops, kills or pauses it; runs afterwards."""
    if not isinstance(soketi, SoketiServer):
        pytest.skip(
            f"{publisher.EXISTING_VARIABLE} names a server that must not be stopped"
        )
    yield soketi
    soketi.resume()
    soketi.start()


@pytest.fixture
def topic(kafka: KafkaBroker) -> Iterator[Topic]:
    """A topic with a name of its own, its dead letters and gaps; gone afterwards."""
    name = f"jobs-{uuid.uuid4().hex[:12]}"
    fresh = Topic(
        name, f"{name}.dlq", f"{name}.gaps", _PARTITIONS, kafka.bootstrap_servers
    )
    kafka.create_topic(fresh.name, fresh.partitions)
    kafka.create_topic(fresh.dead_letter, 1)
    kafka.create_topic(fresh.gaps, 1)
    yield fresh
    kafka.delete_topics(fresh.name, fresh.dead_letter, fresh.gaps)


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging to pytest as it was, and no secret in the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # A process hides its secrets for good.
    redactor = redaction._redactor  # noqa: SLF001 - nobody else may forget them
    monkeypatch.setattr(redactor, "_values", {})
    monkeypatch.setattr(redactor, "_forms", ())
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("bridge").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.reset_defaults()
