"""The bridge as its users run it: a process with settings, a port and a log."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import sqlite3  # noqa: TID251 - looks into a dead bridge's file from outside
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.kit import hurried_bridge
from tests.kit.process import ChildProcess, environment_without, free_ports


T = TypeVar("T")

# A start takes 1 s on an idle machine; with all cores busy it has taken 6.
PATIENCE_SECONDS = 25.0

# The health port answers from memory.
_HTTP_TIMEOUT_SECONDS = 5.0

_LOOK_SECONDS = 0.03


@dataclass(frozen=True)
class Answer:
    """What the health port said: the status and the JSON."""

    status: int
    body: Mapping[str, Any]

    def check(self, name: str) -> Mapping[str, Any]:
        """Give one check of the report by its name."""
        (found,) = [each for each in self.body["checks"] if each["name"] == name]
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Row:
    """A committed row of the outbox's file: its identity and its value."""

    ce_id: str
    topic: str
    value: bytes


class Metrics:
    """One reading of `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples: list[Sample] = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> int:
        """Add up a metric's samples that carry these labels; 0 without any."""
        wanted = labels.items()
        return int(
            sum(
                sample.value
                for sample in self._samples
                if sample.name == name and wanted <= sample.labels.items()
            )
        )

    def table(self, name: str) -> dict[tuple[str, ...], int]:
        """Give a metric's samples by the values of their labels."""
        return {
            tuple(sample.labels.values()): int(sample.value)
            for sample in self._samples
            if sample.name == name
        }

    def __str__(self) -> str:
        now = self.read, self.committed, self.published, self.waiting
        return "read {}, committed {}, published {}, waiting {}".format(*now)

    @property
    def words(self) -> set[str]:
        """All values of all labels."""
        return {word for sample in self._samples for word in sample.labels.values()}

    @property
    def read(self) -> int:
        """Events read from the socket."""
        return self.total("bridge_events_received_total")

    @property
    def published(self) -> int:
        """Records that Kafka has, dead letters included; gaps aren't events."""
        name = "bridge_records_published_total"
        topics = {s.labels["topic"] for s in self._samples if s.name == name}
        return sum(
            self.total(name, topic=each)
            for each in topics
            if not each.endswith(".gaps")
        )

    @property
    def buffered(self) -> int:
        """Records that were offered and of which nothing has become yet."""
        names = (
            "bridge_outbox_committed_total",
            "bridge_outbox_superseded_total",
            "bridge_outbox_withdrawn_total",
            "bridge_events_dropped_total",
            "bridge_preview_records_dropped_total",
        )
        gone = sum(self.total(name) for name in names)
        return self.total("bridge_outbox_accepted_total") - gone

    @property
    def committed(self) -> int:
        """Records that are on disk."""
        return self.total("bridge_outbox_committed_total")

    @property
    def waiting(self) -> int:
        """Committed records that Kafka has not acknowledged."""
        return self.total("bridge_outbox_rows")


class BridgeProcess:
    """One bridge, that may be started, killed and started again on its outbox."""

    def __init__(
        self,
        folder: Path,
        topic: str,
        settings: Mapping[str, str],
        wrapper: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        (self.port,) = free_ports(1)
        folder.mkdir()
        self.outbox = Path(settings.get("OUTBOX_DIR", folder / "outbox"))
        own = {
            "OUTBOX_DIR": str(self.outbox),
            "OPERATIONS_LISTEN": f"127.0.0.1:{self.port}",
            "LOG_FORMAT": "json",
        }
        # The user's own bridge must not speak into this one.
        environment = environment_without("BRIDGE_")
        command = ["-m", "bridge"]
        for name, value in (own | dict(settings)).items():
            if name in hurried_bridge.waits():
                environment[f"BRIDGE_TEST_{name}"] = value
                command = ["-P", hurried_bridge.__file__]
            else:
                environment[f"BRIDGE_{name}"] = value
        self.starts = 0
        self._end_was_seen = True
        self._child = ChildProcess(
            "the bridge",
            [*wrapper, sys.executable, *command, "--topic", topic, *flags],
            log=folder / "log",
            cwd=folder,
            env=environment,
        )

    # -- The process ----------------------------------------------------------

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self._child.spawn()
        self._end_was_seen = False
        self.starts += 1

    async def start_and_wait(self) -> None:
        """Start it and wait until it is subscribed and has reached Kafka."""
        self.start()
        await self.wait_ready()

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child.running

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.signal(number)

    def kill(self) -> None:
        """Kill it without a word (SIGKILL)."""
        # One that has ended by itself before is another matter.
        self._end_was_seen |= self.running
        self._child.kill()

    @property
    def ended_unseen(self) -> bool:
        """Whether it has ended though no test killed it or waited for its end."""
        return not self.running and not self._end_was_seen

    async def wait_exit(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and give the exit code."""
        await self._wait(lambda: self._child.exit_code is not None, seconds, "end")
        code = self._child.exit_code
        assert code is not None
        self._end_was_seen = True
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as Kubernetes does, wait for it and give the exit code."""
        self.send(number)
        return await self.wait_exit()

    # -- What it says ---------------------------------------------------------

    @property
    def all_output(self) -> str:
        """Everything that it has written over all its starts."""
        log = self._child.log
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def sentences(self) -> list[str]:
        """What it has said to people since its start: lines that aren't logs."""
        lines = self._child.output().splitlines()
        return [line for line in lines if not line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give the log lines with this event since its start, in order."""
        lines = self._child.output().splitlines(keepends=True)
        decoded = [
            json.loads(line)
            for line in lines
            # The last line may be half written.
            if line.startswith("{") and line.endswith("\n")
        ]
        return [line for line in decoded if line["event"] == event]

    async def wait_logged(
        self, event: str, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """Wait for a log line with this event and give the first one."""
        await self._wait(lambda: bool(self.logged(event)), seconds, f"log {event}")
        return self.logged(event)[0]

    async def wait_refusal(self, code: int) -> str:
        """Wait until it has ended with this code, and give the one sentence why."""
        assert await self.wait_exit() == code, self.all_output
        (sentence,) = self.sentences
        assert sentence.startswith("bridge: ")
        return sentence

    # -- What its health port answers -----------------------------------------

    async def ask(self, path: str) -> Answer | None:
        """Ask `/livez` or `/readyz`; None without an answer."""
        answer = await trio.to_thread.run_sync(self.get, path)
        if answer is None:
            return None
        status, text = answer
        return Answer(status, json.loads(text))

    async def metrics(self) -> Metrics:
        """Read its metrics; it must be serving them."""
        metrics = await self._metrics()
        if metrics is None:
            raise self._child.error("gave no metrics")
        return metrics

    async def _metrics(self) -> Metrics | None:
        answer = await trio.to_thread.run_sync(self.get, "/metrics")
        return None if answer is None else Metrics(answer[1])

    def get(self, path: str) -> tuple[int, str] | None:
        """Ask for a page; gives status and text, None if nothing answers. It blocks."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=_HTTP_TIMEOUT_SECONDS
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    async def wait_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until `/readyz` says so."""
        await self.wait_answer("/readyz", lambda now: now.status == 200, seconds)

    async def wait_answer(
        self,
        path: str,
        condition: Callable[[Answer], bool],
        seconds: float = PATIENCE_SECONDS,
    ) -> Answer:
        """Ask again and again until the answer is as wanted, and give it."""
        return await self._until(partial(self.ask, path), condition, path, seconds)

    async def wait_metrics(
        self, condition: Callable[[Metrics], bool], seconds: float = PATIENCE_SECONDS
    ) -> Metrics:
        """Read the metrics again and again until they are as wanted."""
        return await self._until(self._metrics, condition, "/metrics", seconds)

    async def _until(
        self,
        look: Callable[[], Awaitable[T | None]],
        condition: Callable[[T], bool],
        path: str,
        seconds: float,
    ) -> T:
        last: T | None = None
        with trio.move_on_after(seconds):
            while True:
                if not self.running:
                    raise self._child.error(f"ended before {path} was as wanted")
                # While it starts its port isn't open yet.
                last = await look()
                if last is not None and condition(last):
                    return last
                await trio.sleep(_LOOK_SECONDS)
        raise self._child.error(f"gave {last} for {path} after {seconds:g} s")

    # -- Its file -------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Give every event in the file of a bridge that doesn't run, sent or not."""
        return self._rows("")

    def waiting_rows(self) -> list[Row]:
        """Give the events that Kafka has not acknowledged, as `rows` does."""
        return self._rows(_WAITING)

    def _rows(self, condition: str) -> list[Row]:
        """Ask a copy: opening the file itself would change its log."""
        assert not self.running
        with tempfile.TemporaryDirectory() as folder:
            self.copy_file(Path(folder))
            return rows_in(Path(folder), condition)

    def copy_file(self, folder: Path) -> None:
        """Copy the file and its log; the bridge is dead, or has nothing to write."""
        folder.mkdir(exist_ok=True)
        for file in self.outbox.glob("outbox.sqlite3*"):
            shutil.copy(file, folder)

    def put_back(self, folder: Path) -> None:
        """Put an older copy in the file's place, as a power loss may do."""
        assert not self.running
        for file in self.outbox.glob("outbox.sqlite3*"):
            file.unlink()
        for file in folder.iterdir():
            shutil.copy(file, self.outbox)

    async def _wait(
        self, condition: Callable[[], bool], seconds: float, what: str
    ) -> None:
        with trio.move_on_after(seconds):
            # Another process changes what is looked at.
            while not condition():  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            return
        raise self._child.error(f"did not {what} within {seconds:g} s")


_WAITING = (
    " AND (rows.position & ((1 << 40) - 1)) > acknowledged_sequence"
    " AND NOT EXISTS (SELECT 1 FROM acknowledged"
    " WHERE acknowledged.partition = partitions.id"
    " AND (rows.position & ((1 << 40) - 1)) <= acknowledged.last_sequence)"
)


def rows_in(folder: Path, condition: str = "") -> list[Row]:
    """Give every event in a copy of an outbox's file, sent or not, if it is so."""
    query = (
        "SELECT ce_id, topic, value FROM rows"
        " JOIN partitions ON partitions.id = rows.position >> 40"
        # Gaps aren't events.
        " WHERE topic NOT LIKE '%.gaps'"
    )
    with closing(sqlite3.connect(folder / "outbox.sqlite3")) as connection:
        return [Row(*values) for values in connection.execute(query + condition)]
