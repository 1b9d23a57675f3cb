"""The table of latest states is right: on a compacted topic, and over interruptions."""

from __future__ import annotations

import signal
import sqlite3  # noqa: TID251 - the example's own database
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.examples.program import running
from tests.examples.records import records_of, status, whole_job, write_again
from tests.examples.rooms import Publish
from tests.kit.broker import configure_broker, configure_topic
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record


_EXAMPLE = Path(__file__).parents[2] / "examples" / "latest_state.py"

# Measured: 1 to 3 s from the roll of the segment to the cleaner's end.
_COMPACTION_SECONDS = 25.0


def _command(topic: Topic, *options: str) -> list[str | Path]:
    where = ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.name]
    return [sys.executable, _EXAMPLE, *where, *options]


def _rows(folder: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(folder / "latest.sqlite3")) as database:
        query = "SELECT request_id, status, progress FROM jobs ORDER BY request_id"
        return database.execute(query).fetchall()


@pytest.fixture
def compacted(own_kafka: KafkaServer, topic: Topic) -> Iterator[Topic]:
    """A topic that the broker compacts as soon as it can."""
    servers = topic.bootstrap_servers
    configs = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
    }
    configure_topic(servers, topic.name, configs)
    # The cleaner looks every 15 s; the change wakes it up as well.
    configure_broker(servers, {"log.cleaner.backoff.ms": "200"})
    yield topic
    configure_broker(servers, {"log.cleaner.backoff.ms": None})


async def _wait_for_compaction(topic: Topic, publish: Publish) -> list[Record]:
    """Write until the broker has compacted everything that was there before."""
    written = len(await records_of(topic))
    with trio.fail_after(_COMPACTION_SECONDS):
        for number in range(1000):
            # A segment is compacted once another record has closed it.
            await publish([status(f"filler-{number}", "processing")])
            records = [
                record
                for record in await records_of(topic)
                if not (record.key or b"").startswith(b"filler")
            ]
            keys = {record.key for record in records}
            if len(records) == len(keys) < written:
                return records
            await trio.sleep(0.3)
    raise AssertionError


async def test_is_right_on_a_compacted_topic(
    compacted: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Of compacted histories it makes the same table as of whole ones."""
    for number in range(6):
        await publish(whole_job(f"job-{number}"))
    await publish([status("job-0", "in_progress", "99.00")])
    await publish([status("job-8", "processing")])
    await publish([status("job-8", "in_progress", "12.25")])
    async with running(_command(compacted, "--table", "whole"), tmp_path) as program:
        whole = await program.lines(1)
        await program.end()

    left = await _wait_for_compaction(compacted, publish)
    async with running(_command(compacted), tmp_path) as program:
        await program.lines(1)
        await program.end()

    assert whole == ["caught up: 6 done, 1 in_progress"]
    assert len(left) == 7
    ends = [record for record in left if b'"done"' in (record.value or b"")]
    assert {record.key for record in ends} == {b"job-%d" % n for n in range(6)}
    jobs = [row for row in _rows(tmp_path) if not row[0].startswith("filler")]
    finished = [(f"job-{number}", "done", "100.00") for number in range(6)]
    assert jobs == [*finished, ("job-8", "in_progress", "12.25")]


async def test_follows_and_goes_on_after_ctrl_c(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """It tells of each change, ends with 0, and tells nothing twice when it is back."""
    await publish(whole_job("job-1"))
    async with running(_command(topic), tmp_path) as program:
        lines = await program.lines(1)
        await publish([status("job-2", "in_progress", "10.00")])
        lines += await program.lines(1)
        ends = [await program.end(signal.SIGINT)]
        assert "Traceback" not in program.errors
    await publish([status("job-2", "done", "100.00")])
    async with running(_command(topic), tmp_path) as program:
        lines += await program.lines(1)
        await publish([status("job-3", "processing")])
        lines += await program.lines(1)
        ends.append(await program.end())

    assert lines == [
        "caught up: 1 done",
        "job-2 in_progress 10.00",
        "caught up: 2 done",
        "job-3 processing None",
    ]
    assert ends == [(0, ""), (0, "")]


async def test_lets_an_end_stand(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """A record behind the terminal one changes nothing, an erased job is gone."""
    await publish([*whole_job("job-1"), status("job-2", "processing")])
    records = await records_of(topic, 4)
    (earlier,) = [one for one in records if b'"in_progress"' in (one.value or b"")]
    (erased,) = [one for one in records if one.key == b"job-2"]
    write_again(topic, earlier, ce_id=b"late-1")
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    producer.produce(topic.name, key=b"job-2", partition=erased.partition)
    assert producer.flush(10.0) == 0

    async with running(_command(topic, "--once"), tmp_path) as program:
        (line,) = await program.lines(1)

    assert line == "caught up: 1 done"
    assert _rows(tmp_path) == [("job-1", "done", "100.00")]
