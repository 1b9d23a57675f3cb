"""`bridge board` as a process, on a real topic: its address, its events, its end."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import httpx  # noqa: TID251 - the browser of these tests
import pytest
import trio
from click.testing import CliRunner
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.board import running
from bridge.board.running import run
from bridge.cli import board as board_command
from bridge.cli import root
from bridge.settings import BoardSettings, KafkaSettings, Settings
from tests.board.records import JPEG, Page, page_when, preview
from tests.conftest import Topic
from tests.consumer.letters import Sent, payload, sent, write
from tests.consumer.test_gaps import value as gap_value
from tests.kafka.security.granting import documented
from tests.kafka.security.test_signing_in import topic_of
from tests.kit.guest import Guest, Right
from tests.kit.secure_kafka import SecureKafka


# Far more than the second that a start takes here, below a test's 60 s.
_DEADLINE_SECONDS = 30.0


Start = Callable[..., "Board"]


class Board:
    """A board that runs."""

    def __init__(self, line: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told.startswith("the board of jobs: http://127.0.0.1:"), told
        self.address = told.split()[-1]

    def page_when(self, is_there: Callable[[Page], bool]) -> Page:
        """Read the events until the page shows something."""
        return page_when(self.address, is_there, _DEADLINE_SECONDS)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; give the exit code and what was logged."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=_DEADLINE_SECONDS)
        return self.process.returncode, errors


def command(topic: Topic | None, *, servers: str = "") -> list[str]:
    """The command line for a topic."""
    line = [sys.executable, "-m", "bridge", "board", "--listen", "127.0.0.1:0"]
    if topic is not None:
        line += ["--topic", topic.name]
        servers = servers or topic.bootstrap_servers
    return [*line, "--bootstrap-servers", servers]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start boards; none outlives the test."""
    boards: list[Board] = []

    def begin(
        topic: Topic | None,
        *,
        servers: str = "",
    ) -> Board:
        boards.append(Board(command(topic, servers=servers)))
        return boards[-1]

    yield begin
    for board in boards:
        board.process.kill()
        board.process.communicate()


def produce(topic: Topic, job: str, status: str, **more: object) -> None:
    """Write an event of a job."""
    value = payload(job, status, **more)
    write(topic, [Sent(value, job.encode())], name=topic.name)


def test_job_gap_and_dead_letter_are_seen(topic: Topic, start: Start) -> None:
    """The snapshot has old records, updates have new ones; it exits with 0."""
    produce(topic, "old", "done", result_url="https://a/s")
    write(topic, [Sent(gap_value("gap-1", until=None), b"c", {})], name=topic.gaps)
    board = start(topic)
    page = board.page_when(lambda page: bool(page.jobs and page.gaps))
    assert page.jobs["old"]["status"] == "done"
    assert page.jobs["old"]["has_result"]
    assert "result_url" not in page.jobs["old"]
    assert (page.gaps[0]["gap_id"], page.gaps[0]["until"]) == ("gap-1", None)

    def has_all(page: Page) -> bool:
        return bool(page.dead_letters and page.jobs.get("new", {}).get("preview"))

    produce(topic, "new", "in_progress", preview=preview())
    write(topic, [sent(b"<b>no</b>", "not_json")], name=topic.dead_letter)
    page = board.page_when(has_all)
    assert page.dead_letters[0]["text"] == "<b>no</b>"
    version = page.jobs["new"]["preview"]
    picture = httpx.get(f"{board.address}previews/new?v={version}", trust_env=False)
    assert (picture.content, picture.headers["content-type"]) == (JPEG, "image/jpeg")
    page = board.page_when(lambda page: page.figures["reading"] == "live")
    assert (page.figures["seen"], page.figures["in_flight"]) == (2, 1)
    assert page.figures["note"] is None
    code, errors = board.end(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in errors


def test_the_page_says_that_kafka_is_unavailable(start: Start) -> None:
    """The port is open before a broker was met, and stays so."""
    board = start(None, servers="127.0.0.1:1")  # no server listens on tcpmux
    page = board.page_when(lambda page: page.figures["reading"] == "unavailable")
    assert "127.0.0.1:1" in page.figures["note"]
    assert page.figures["unavailable_since_ms"] is not None
    assert board.end(signal.SIGTERM)[0] == 0


def test_options_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the command go before those of the environment."""
    seen: list[Settings] = []

    async def run(settings: Settings, _: object) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(settings)

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(board_command, "be_quiet", lambda _: None)
    monkeypatch.setenv("BRIDGE_BOARD_SINCE_SECONDS", "60")
    monkeypatch.setenv("BRIDGE_PREVIEWS", "topic")
    runner = CliRunner()
    assert runner.invoke(root, ["board", "--listen", "[::1]:0"]).exit_code == 0
    options = ["board", "--since", "2h", "--show-results"]
    assert runner.invoke(root, options).exit_code == 0
    first, second = (one.board for one in seen)
    assert (first.listen, first.since_seconds) == ("[::1]:0", 60)
    assert not first.show_results
    assert (second.since_seconds, second.show_results) == (7_200, True)
    assert {one.previews for one in seen} == {"topic"}
    wrong = runner.invoke(root, ["board", "--listen", "8090"])
    assert wrong.exit_code == 2
    assert "BRIDGE_BOARD_LISTEN, --listen" in wrong.output


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
