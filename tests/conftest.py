"""Fixtures that every test may ask for, and the real servers that some tests need."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hypothesis
import pytest
import structlog

from bridge import text
from tests.kit import broker, cache, downloads, npm, publisher
from tests.kit.broker import BrokerError, KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer
from tests.kit.producers import track_producers, unclosed_producers
from tests.kit.publisher import Soketi, SoketiSettingError, existing_soketi
from tests.kit.registry import RegistryServer
from tests.kit.secure_kafka import SecureKafka
from tests.kit.shared import Servers, SharedServerError, SharedServers, servers_of
from tests.kit.soketi import SoketiServer
from tests.skips import may_skip


# Other processes may hold the processors: how long an input takes says nothing of it.
hypothesis.settings.register_profile(
    "bridge", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("bridge")

_SERVERS = pytest.StashKey[Servers]()
_NUMBERS = pytest.StashKey[dict[str, int]]()

# Servers that one test has for itself, and how many of them there are at most.
_OWN = {"own_kafka": 2, "own_soketi": 2, "registry": 1, "secure": 1}

_CONNECTED = {"shared_kafka", "shared_soketi", *_OWN, "kafka", "soketi"}

_FETCHES: dict[str, Callable[[cache.Progress], object]] = {
    "kafka": downloads.fetch_kafka,
    "own_kafka": downloads.fetch_kafka,
    "secure": downloads.fetch_kafka,
    "soketi": npm.fetch_soketi,
    "own_soketi": npm.fetch_soketi,
    "registry": downloads.fetch_registry,
}

_unlisted_skips: list[str] = []

_FAILURES = pytest.StashKey[dict[object, cache.FetchError]]()

_TESTS = Path(__file__).parent

# What takes a real server for each of many cases, seconds of real time, or builds and
# installs.
_SLOW = (
    "benchmarks/",
    "board/test_command.py",
    "board/test_command.py",
    "check/",
    "examples/",
    "gaps/test_webhook_flood.py",
    "helm/",
    "kafka/",
    "replay/",
    "sandbox/",
    "schemas/",
    "test_packaging.py",
    "test_service.py",
)

# Enough to distinguish partitions, and few enough to be filled by 50 jobs.
_PARTITIONS = 3


@dataclass(frozen=True)
class Topic:
    """A fresh topic, its dead-letter topic and its ledger of gaps."""

    name: str
    dead_letter: str
    gaps: str
    partitions: int
    bootstrap_servers: str


def pytest_configure(config: pytest.Config) -> None:
    """Have the servers of the run, none of which runs yet."""
    track_producers()
    # A shell starts what runs in its background with SIGINT ignored, and whatever a
    # process starts inherits that: bridges would not stop on it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_SERVERS] = servers_of(worker["servers"])
        return
    workers = config.getoption("numprocesses", None) or 1
    config.stash[_SERVERS] = SharedServers(
        {
            "kafka": lambda: KafkaServer(detours=workers),
            "own_kafka": KafkaServer,
            "soketi": SoketiServer,
            "own_soketi": SoketiServer,
            "registry": RegistryServer,
            "secure": SecureKafka,
        }
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Say to a worker of pytest-xdist where the servers are."""
    node.workerinput["servers"] = str(node.config.stash[_SERVERS].listen())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers."""
    servers = config.stash.get(_SERVERS, None)
    if isinstance(servers, SharedServers):
        servers.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout's clock
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have a test's own servers for the whole of the test."""
    servers = item.config.stash[_SERVERS]
    numbers = item.stash.setdefault(_NUMBERS, {})
    with ExitStack() as stack:
        # All tests in one order: two never wait for each other.
        for name in sorted(_OWN.keys() & _fixtures(item)):
            numbers[name] = stack.enter_context(servers.locked(name, _OWN[name]))
        return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a skip that isn't listed; the controller gets the reports of all workers."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a module that is skipped as a whole."""
    _note_skip(report)


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if not may_skip(report.nodeid, reason):
            _unlisted_skips.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skip that isn't listed fail the run."""
    if _unlisted_skips and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that aren't listed."""
    for skip in _unlisted_skips:
        terminalreporter.write_line(f"not in tests/skips.py: {skip}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Fail a test that leaves a producer open."""
    result = yield
    if unclosed := unclosed_producers():
        pytest.fail(f"left open: {unclosed}", pytrace=False)
    return result


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a real server, and those for `make test-all`."""
    for item in items:
        if item.path.relative_to(_TESTS).as_posix().startswith(_SLOW):
            item.add_marker(pytest.mark.slow)
        if _CONNECTED & _fixtures(item):
            item.add_marker(pytest.mark.connected)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download what the chosen tests need, outside of any test's deadline."""
    if session.config.option.collectonly:
        return
    needed = set().union(*(_fixtures(item) for item in session.items))
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    progress = reporter.write_line if reporter else cache.to_stderr
    failures = session.config.stash.setdefault(_FAILURES, {})
    existing = {
        name
        for name, variable in (
            ("kafka", broker.EXISTING_VARIABLE),
            ("soketi", publisher.EXISTING_VARIABLE),
        )
        if os.environ.get(variable)
    }
    for fetch in {_FETCHES[name] for name in needed & _FETCHES.keys() - existing}:
        try:
            fetch(progress)
        except cache.FetchError as error:
            # The other tests run; those that need the server fail with it, and a
            # second try would only take long.
            failures[fetch] = error


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _server(config: pytest.Config, fixture: str, number: int | None = None) -> Any:
    """Give one of the run's servers, or fail the test that needs it."""
    try:
        if failure := config.stash.get(_FAILURES, {}).get(_FETCHES[fixture]):
            raise failure
        servers = config.stash[_SERVERS]
        return servers.get(fixture if number is None else f"{fixture}-{number}")
    except (cache.FetchError, SharedServerError) as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def shared_kafka(pytestconfig: pytest.Config) -> KafkaBroker:
    """A real Kafka: the run's, or the one that BRIDGE_TEST_KAFKA names."""
    existing = existing_kafka()
    if existing is None:
        return cast("KafkaServer", _server(pytestconfig, "kafka"))
    try:
        existing.check()
    except BrokerError as error:
        pytest.fail(str(error), pytrace=False)
    return existing


@pytest.fixture(scope="session")
def shared_soketi(pytestconfig: pytest.Config) -> Soketi:
    """A real soketi: the run's, or the one that BRIDGE_TEST_SOKETI names."""
    try:
        existing = existing_soketi()
    except SoketiSettingError as error:
        pytest.fail(str(error), pytrace=False)
    if existing is None:
        return cast("SoketiServer", _server(pytestconfig, "soketi"))
    if not existing.answers():
        pytest.fail(f"no soketi answers at {existing.url}", pytrace=False)
    return existing


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    """A Kafka for a test that stops, kills or pauses it; no other has it meanwhile."""
    server: KafkaServer = _server(request.config, "own_kafka", _own(request))
    server.resume()
    server.start()
    yield server
    server.resume()
    server.start()
    server.check()


@pytest.fixture
def own_soketi(request: pytest.FixtureRequest) -> Iterator[SoketiServer]:
    """A soketi for a test that stops, kills or pauses it; no other has it meanwhile."""
    server: SoketiServer = _server(request.config, "own_soketi", _own(request))
    server.resume()
    server.start()
    yield server
    server.resume()
    server.start()
    assert server.answers()


def _own(request: pytest.FixtureRequest) -> int:
    numbers: dict[str, int] = request.node.stash[_NUMBERS]
    assert request.fixturename is not None
    return numbers[request.fixturename]


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> KafkaBroker:
    """The Kafka of a test: the shared one, or the test's own if it has one."""
    own = "own_kafka" in request.fixturenames
    return cast(
        "KafkaBroker", request.getfixturevalue("own_kafka" if own else "shared_kafka")
    )


@pytest.fixture
def soketi(request: pytest.FixtureRequest) -> Soketi:
    """The soketi of a test: the shared one, or the test's own if it has one."""
    own = "own_soketi" in request.fixturenames
    return cast(
        "Soketi", request.getfixturevalue("own_soketi" if own else "shared_soketi")
    )


@pytest.fixture
def registry(pytestconfig: pytest.Config) -> Iterator[RegistryServer]:
    """A real Schema Registry: Apicurio's, which has Confluent's API."""
    server: RegistryServer = _server(pytestconfig, "registry")
    yield server
    server.resume()


@pytest.fixture
def secure(pytestconfig: pytest.Config) -> SecureKafka:
    """A real Kafka of the run's, with a listener for each way to sign in."""
    return cast("SecureKafka", _server(pytestconfig, "secure"))


@pytest.fixture
def topic(kafka: KafkaBroker) -> Topic:
    """A topic with a name of its own, its dead letters and gaps."""
    name = f"jobs-{uuid.uuid4().hex[:12]}"
    fresh = Topic(
        name, f"{name}.dlq", f"{name}.gaps", _PARTITIONS, kafka.bootstrap_servers
    )
    kafka.create_topics(
        {fresh.name: fresh.partitions, fresh.dead_letter: 1, fresh.gaps: 1}
    )
    return fresh


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging to pytest as it was, and no secret in the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # A process hides its secrets for good.
    redactor = text._redactor  # noqa: SLF001 - only a test may forget them
    monkeypatch.setattr(redactor, "_values", {})
    monkeypatch.setattr(redactor, "_spellings", ())
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    # Commands for people silence aiokafka for the whole process.
    for name in ("bridge", "aiokafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.reset_defaults()
