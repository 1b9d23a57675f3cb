"""The Python examples keep their promises against records that the bridge wrote."""

from __future__ import annotations

import base64
import hashlib
import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from PIL import Image

from bridge.gaps.gap import GapCause
from tests.conftest import Topic
from tests.examples.program import caught_up, example, rows, running
from tests.examples.records import (
    Job,
    records_of,
    status,
    whole_job,
    write_aborted,
    write_again,
)
from tests.examples.rooms import CLIENT_ID, Publish, Rooms, open_rooms
from tests.kit import writer
from tests.kit.broker import KafkaBroker, configure_broker, configure_topic
from tests.kit.kafka import KafkaServer
from tests.kit.reader import Record


# 2026-01-31T12:00:00Z.
_NOON_US = 1_769_860_800_000_000
_SECOND_US = 1_000_000

# Measured: 1 to 3 s from the roll of the segment to the cleaner's end.
_COMPACTION_SECONDS = 25.0

_STATES = "SELECT request_id, status, progress FROM jobs ORDER BY 1"


# -- consumer.py ----------------------------------------------------------------------


def consumer(topic: Topic) -> list[str]:
    """Return the command line of a consumer in a group."""
    return [*example("consumer.py", topic), "--group", "first"]


def counted(folder: Path) -> list[tuple[object, ...]]:
    """Return each job's status, its progress and how many events it had, by name."""
    query = "SELECT request_id, status, progress, events FROM jobs ORDER BY 1"
    return rows(folder / "jobs.sqlite3", query)


async def test_keeps_a_row_and_says_once_that_a_job_finished(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Each job has one row with its last state, and each finished job one line."""
    jobs = [whole_job(f"job-{number}") for number in range(4)]
    await publish([one for job in jobs for one in job])
    await publish([status("job-9", "in_progress", "12.25")])
    async with running(consumer(topic), tmp_path) as program:
        lines = await program.lines(4)
        await caught_up(topic, "first")
        code, rest = await program.end()
    assert sorted(lines) == [
        f"job-{number} done https://storage.example/job-{number}.png"
        for number in range(4)
    ]
    assert (code, rest) == (0, "")
    finished = [(f"job-{number}", "done", "100.00", 3) for number in range(4)]
    assert counted(tmp_path) == [*finished, ("job-9", "in_progress", "12.25", 1)]


async def test_a_consumer_goes_on_where_it_was_after_ctrl_c(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Ctrl-C ends it with 0; the next one handles what came meanwhile, and no more."""
    await publish(whole_job("job-1"))
    async with running(consumer(topic), tmp_path) as program:
        await program.lines(1)
        await caught_up(topic, "first")
        code, _ = await program.end(signal.SIGINT)
        assert (code, "Traceback" in program.errors) == (0, False)
    (tmp_path / "jobs.sqlite3").unlink()
    await publish(whole_job("job-2"))
    async with running(consumer(topic), tmp_path) as program:
        (line,) = await program.lines(1)
        await caught_up(topic, "first")
        await program.end()
    assert line.startswith("job-2 done")
    assert counted(tmp_path) == [("job-2", "done", "100.00", 3)]


async def test_counts_an_event_once_and_no_aborted_one(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """The same event at two offsets counts once."""
    await publish(whole_job("job-1")[:2])
    first, second = await records_of(topic, 2)
    write_again(topic, first, bridge_anomaly=b"resent")
    write_again(topic, second, bridge_anomaly=b"resent")
    write_aborted(topic, second, ce_id=b"never-1")
    await publish([status("job-1", "in_progress", "45.50")])
    await publish([status("job-1", "done", "100.00")])
    async with running(consumer(topic), tmp_path) as program:
        await program.lines(1)
        await program.end()
    assert counted(tmp_path) == [("job-1", "done", "100.00", 3)]


async def test_takes_no_step_back(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Neither progress that falls nor an older event that was replayed is taken."""
    for progress in ("10.00", "80.00", "20.00"):
        await publish([status("job-1", "in_progress", progress)])
    older, *_ = await records_of(topic, 3)
    replayed = {"bridge_origin": b"replay", "bridge_anomaly": b"replayed"}
    write_again(topic, older, ce_id=b"replay-1", **replayed)
    async with running(consumer(topic), tmp_path) as program:
        await caught_up(topic, "first")
        states = counted(tmp_path)
        await publish([status("job-1", "in_progress", "90.00")])
        await caught_up(topic, "first")
        states += counted(tmp_path)
        later = b"2999-01-01T00:00:00.000000Z"
        write_again(topic, older, ce_id=b"replay-2", ce_time=later, **replayed)
        await caught_up(topic, "first")
        await program.end()
    assert [*states, *counted(tmp_path)] == [
        ("job-1", "in_progress", "80.00", 4),
        ("job-1", "in_progress", "90.00", 5),
        ("job-1", "in_progress", "10.00", 6),
    ]


# -- latest_state.py ------------------------------------------------------------------


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
            found = await records_of(topic)
            left = [one for one in found if not (one.key or b"").startswith(b"filler")]
            if len(left) == len({one.key for one in left}) < written:
                return left
            await trio.sleep(0.3)
    raise AssertionError


async def test_is_right_on_a_compacted_topic(
    compacted: Topic, publish: Publish, tmp_path: Path
) -> None:
    """Of compacted histories it makes the same table as of whole ones."""
    line = example("latest_state.py", compacted)
    for number in range(6):
        await publish(whole_job(f"job-{number}"))
    await publish([status("job-0", "in_progress", "99.00")])
    await publish([status("job-8", "processing")])
    await publish([status("job-8", "in_progress", "12.25")])
    async with running([*line, "--table", "whole"], tmp_path) as program:
        whole = await program.lines(1)
        await program.end()
    left = await _wait_for_compaction(compacted, publish)
    async with running(line, tmp_path) as program:
        await program.lines(1)
        await program.end()
    assert whole == ["caught up: 6 done, 1 in_progress"]
    assert len(left) == 7
    ends = [record for record in left if b'"done"' in (record.value or b"")]
    assert {record.key for record in ends} == {b"job-%d" % n for n in range(6)}
    states = rows(tmp_path / "latest.sqlite3", _STATES)
    jobs = [row for row in states if not str(row[0]).startswith("filler")]
    finished = [(f"job-{number}", "done", "100.00") for number in range(6)]
    assert jobs == [*finished, ("job-8", "in_progress", "12.25")]


async def test_a_table_follows_and_goes_on_after_ctrl_c(
    topic: Topic, publish: Publish, tmp_path: Path
) -> None:
    """It reports each change, ends cleanly, and repeats nothing when it is back."""
    await publish(whole_job("job-1"))
    async with running(example("latest_state.py", topic), tmp_path) as program:
        lines = await program.lines(1)
        await publish([status("job-2", "in_progress", "10.00")])
        lines += await program.lines(1)
        ends = [await program.end(signal.SIGINT)]
        assert "Traceback" not in program.errors
    await publish([status("job-2", "done", "100.00")])
    async with running(example("latest_state.py", topic), tmp_path) as program:
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


async def test_an_end_stays(topic: Topic, publish: Publish, tmp_path: Path) -> None:
    """A record behind the terminal one changes nothing, an erased job is gone."""
    await publish([*whole_job("job-1"), status("job-2", "processing")])
    records = await records_of(topic, 4)
    (earlier,) = [one for one in records if b'"in_progress"' in (one.value or b"")]
    (erased,) = [one for one in records if one.key == b"job-2"]
    write_again(topic, earlier, ce_id=b"late-1")
    tombstone = writer.Sent(None, b"job-2", partition=erased.partition)
    writer.write(topic.bootstrap_servers, topic.name, [tombstone])
    line = [*example("latest_state.py", topic), "--once"]
    async with running(line, tmp_path) as program:
        assert await program.lines(1) == ["caught up: 1 done"]
    states = rows(tmp_path / "latest.sqlite3", _STATES)
    assert states == [("job-1", "done", "100.00")]


# -- gaps.py --------------------------------------------------------------------------


async def gaps(topic: Topic, *options: str) -> tuple[int, list[str]]:
    """Run the program to its end; return its code and its lines."""
    line = [*example("gaps.py", topic, topic.gaps), *options]
    with trio.fail_after(20.0):
        done = await trio.run_process(line, capture_stdout=True, check=False)
    return done.returncode, done.stdout.decode().splitlines()


async def test_says_when_data_may_be_missing(topic: Topic, rooms: Rooms) -> None:
    """Gaps that overlap are one interval; open and unknown ones are shown as such."""
    ledger = rooms.ledger
    first = ledger.open(CLIENT_ID, GapCause.FIRST_START, None)
    ledger.close(first, _NOON_US)
    crash = ledger.open(CLIENT_ID, GapCause.CRASHED, _NOON_US + 60 * _SECOND_US)
    loss = ledger.open(CLIENT_ID, GapCause.OVERFLOW, _NOON_US + 65 * _SECOND_US)
    ledger.close(crash, _NOON_US + 70 * _SECOND_US)
    ledger.close(loss, _NOON_US + 72 * _SECOND_US + 250_000)
    ledger.open(CLIENT_ID, GapCause.DEAF, _NOON_US + 600 * _SECOND_US)
    await rooms.settled()
    day = "2026-01-31T12"
    found = [
        f"unknown {day}:00:00+00:00 first_start",
        f"{day}:01:00+00:00 {day}:01:12.250000+00:00 crashed,overflow",
        f"{day}:10:00+00:00 open deaf",
    ]
    assert await gaps(topic) == (1, [f"{CLIENT_ID} {one}" for one in found])
    minute = ["--since", "2026-01-31T12:02:00Z", "--until", "2026-01-31T12:03:00Z"]
    assert await gaps(topic, *minute) == (0, [])
    assert (await gaps(topic, "--client-id", "another"))[0] == 0


# -- previews.py ----------------------------------------------------------------------


def _showing(job: Job, color: str, kind: str) -> tuple[Job, bytes]:
    written = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(written, kind)
    text = base64.b64encode(written.getvalue()).decode()
    return job | {"preview": f"data:image/{kind};base64,{text}"}, written.getvalue()


async def test_joins_jobs_with_their_images(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path
) -> None:
    """Each image is a file once, as it was, and each job has a line with its last."""
    previews = f"{topic.name}.previews"
    kafka.create_topic(previews, topic.partitions, {"cleanup.policy": "compact"})
    name, line = "a/../job", example("previews.py", topic)
    running_job, red = _showing(status(name, "in_progress"), "red", "jpeg")
    done_job, green = _showing(status(name, "done"), "green", "png")
    async with open_rooms(topic, tmp_path / "outbox", previews="topic") as rooms:
        await rooms.publish([running_job])
        await rooms.publish([status("job-2", "in_progress") | {"preview": "none"}])
        async with running(line, tmp_path) as program:
            lines = await program.lines(1)
            ends = [await program.end(signal.SIGINT)]
            assert "Traceback" not in program.errors
        await rooms.publish([done_job])
        async with running(line, tmp_path) as program:
            (last,) = await program.lines(1)
            if last == lines[0]:
                # Interrupted between the line and its note: at least once.
                (last,) = await program.lines(1)
            ends.append(await program.end())
    kafka.delete_topics(previews)
    files = {
        hashlib.sha256(image).hexdigest() + suffix: image
        for image, suffix in ((red, ".jpg"), (green, ".png"))
    }
    assert [*lines, last] == [f"{name} {file}" for file in files]
    assert ends == [(0, ""), (0, "")]
    found = {file.name: file.read_bytes() for file in (tmp_path / "previews").iterdir()}
    del found["previews.sqlite3"]
    assert found == files


# -- All of them ----------------------------------------------------------------------


class _Prefix:
    """Confluent's wire format for a schema with an id, which nothing registers."""

    async def prefix(self, topic: str) -> bytes:  # noqa: ARG002 - the relay's name
        return b"\0\0\0\0\x2a"


async def test_reads_what_is_behind_a_prefix(topic: Topic, tmp_path: Path) -> None:
    """Jobs and gaps are read as without it."""
    async with open_rooms(topic, tmp_path / "outbox", framing=_Prefix()) as rooms:
        rooms.ledger.open(CLIENT_ID, GapCause.DEAF, None)
        await rooms.publish(whole_job("job-1"))
    async with running(consumer(topic), tmp_path) as program:
        await program.lines(1)
        await program.end()
    once = [*example("latest_state.py", topic), "--once"]
    async with running(once, tmp_path) as program:
        assert await program.lines(1) == ["caught up: 1 done"]
    assert counted(tmp_path) == [("job-1", "done", "100.00", 3)]
    assert await gaps(topic) == (1, [f"{CLIENT_ID} unknown open deaf"])
