"""`bridge dlq` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from bridge.outbox.survey import replayed_in
from tests.cli.commands import DEADLINE_SECONDS, reading, run
from tests.conftest import Topic
from tests.consumer.letters import NOW_MS, Sent, payload, sent, write
from tests.consumer.topics import report_on
from tests.kit.reader import Record, read_topic


_UTC = "%Y-%m-%dT%H:%M:%SZ"


def test_the_list_is_a_table_by_reason(topic: Topic) -> None:
    """Count, first, last and the last one's place, key and message; exit code 0."""
    write(
        topic,
        [
            sent(b"[", "not_json", timestamp_ms=NOW_MS, message="no JSON"),
            sent(b"{}", key="job-1", timestamp_ms=NOW_MS + 1000),
            sent(b"{}", key="job-2", timestamp_ms=NOW_MS + 9000),
        ],
    )
    result = run(reading(topic, "dlq", "list"))
    assert (result.returncode, result.stderr) == (0, "")
    head, first, second, last = result.stdout.splitlines()
    assert head.split()[:2] == ["reason", "count"]
    assert first.split()[:4] == [
        "invalid_field",
        "2",
        time.strftime(_UTC, time.gmtime(NOW_MS // 1000 + 1)),
        time.strftime(_UTC, time.gmtime(NOW_MS // 1000 + 9)),
    ]
    assert f"{topic.dead_letter}-0@2 job-2: progress is an array" in first
    assert second.split()[:2] == ["not_json", "1"]
    assert last.startswith(f"3 dead letters on {topic.dead_letter}.")


def test_what_no_bridge_of_this_version_wrote_is_shown_as_such(topic: Topic) -> None:
    """A newer bridge's reason is a row; Kafka Connect's letters have none."""
    connects = {"__connect.errors.exception.message": b"Failed to deserialize"}
    write(
        topic, [sent(b"{}", "too_pretty"), Sent(b"x", b"k", connects), Sent(None, None)]
    )
    result = run(reading(topic, "dlq", "list", "--output=json"))
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["topic"], report["count"]) == (topic.dead_letter, 3)
    none, pretty = report["reasons"]
    assert (none["reason"], none["count"]) == ("(none)", 2)
    assert (pretty["reason"], pretty["count"]) == ("too_pretty", 1)
    assert pretty["example"]["place"] == f"{topic.dead_letter}-0@0"
    chosen = run(reading(topic, "dlq", "list", "--reason", "none"))
    assert "Failed to deserialize" in chosen.stdout
    assert chosen.stdout.splitlines()[-1].startswith("2 dead letters")


def test_single_letters_come_newest_last_and_limited(topic: Topic) -> None:
    """With --reason the letters themselves are shown, or written as JSON lines."""
    letters = [
        sent(b'{"n": %d}' % number, timestamp_ms=NOW_MS - number) for number in range(5)
    ]
    write(topic, [*letters, sent(b"[", "not_json")])
    choice = ["list", "--reason", "invalid_field", "--limit", "3"]
    shown = run(reading(topic, "dlq", *choice))
    assert shown.returncode == 0
    values = [line.strip() for line in shown.stdout.splitlines() if '"n"' in line]
    assert values == ['{"n": 2}', '{"n": 1}', '{"n": 0}']
    assert shown.stdout.splitlines()[-1].startswith("3 of 5 dead letters")
    lines = run(reading(topic, "dlq", *choice, "--output=json")).stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [
        {"n": n} for n in (2, 1, 0)
    ]


def test_a_reader_that_has_seen_enough_ends_it(topic: Topic) -> None:
    """`bridge dlq list ... | head -1` shows no traceback."""
    write(topic, [sent(b"{}" * 1000) for _ in range(300)])
    line = reading(topic, "dlq", "list", "--reason", "invalid_field", "--limit", "300")
    for options in ([], ["--output=json"]):
        child = subprocess.Popen(
            [*line, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr is not None
        with child.stderr as errors:
            assert b"Traceback" not in errors.read()
        child.wait(DEADLINE_SECONDS)


# Enough for the outbox to take them in several transactions.
_LETTERS = 3_000
_PADDING = "x" * 2_000


@pytest.fixture(autouse=True)
def quick_resume(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten a wait for late writes that no test here has."""
    del environment


def command(topic: Topic, folder: Path, *options: str) -> list[str]:
    """The command line for a topic, with directories of the test's own."""
    where = ["--outbox-dir", str(folder / "outbox")]
    return reading(topic, *where, "dlq", "replay", *options)


def read(topic: Topic) -> list[Record]:
    """Read the topic of jobs to its end."""
    servers = topic.bootstrap_servers
    return read_topic(servers, topic.name, None, DEADLINE_SECONDS)


def interrupt(
    line: list[str], directory: Path, ce_ids: list[str], number: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Start a replay, and send it a signal as soon as it has written some more."""
    some = ce_ids[::50]  # asked for often, and less than a transaction apart
    before = len(replayed_in(directory, some))
    child = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        if len(replayed_in(directory, some)) > before:
            break
        time.sleep(0.005)
    child.send_signal(number)
    out, errors = child.communicate(timeout=DEADLINE_SECONDS)
    return subprocess.CompletedProcess(line, child.returncode, out, errors)


async def test_kills_in_the_middle_neither_lose_nor_repeat_a_letter(
    topic: Topic, tmp_path: Path
) -> None:
    """Killed again and again, then stopped: at the end each is there once."""
    ce_ids = [f"00112233445566bb-{n}" for n in range(_LETTERS)]
    write(
        topic,
        (
            sent(payload(f"job-{n}", padding=_PADDING), key=f"job-{n}", ce_id=ce_id)
            for n, ce_id in enumerate(ce_ids)
        ),
    )
    line = command(topic, tmp_path)
    directory = tmp_path / "outbox" / "replay"
    for _ in range(2):
        killed = interrupt(line, directory, ce_ids, signal.SIGKILL)
        assert killed.returncode == -signal.SIGKILL
    stopped = interrupt(line, directory, ce_ids, signal.SIGTERM)
    assert stopped.returncode == 1
    assert "not complete (it was interrupted); 0 records wait" in stopped.stderr
    assert "Run it again" in stopped.stderr
    done = len(replayed_in(directory, ce_ids))
    assert 0 < done < _LETTERS
    rest = run(line)
    assert (rest.returncode, rest.stderr) == (0, "")
    assert f"{_LETTERS - done:,} of {_LETTERS:,} dead letters" in rest.stdout
    records = read(topic)
    found = Counter(record.headers["bridge_replayed_ce_id"] for record in records)
    assert found == {ce_id.encode(): 1 for ce_id in ce_ids}
    report = await report_on(topic)
    assert report.clean
    assert len({one.outbox for one in report.outboxes}) == 1


def test_it_ends_with_a_table_and_0(topic: Topic, tmp_path: Path) -> None:
    """Each outcome with its count and meaning; again there is nothing to do."""
    write(topic, [sent(payload("job-1")), sent(b"[", "not_json"), sent(b"5")])
    result = run(command(topic, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    head, replayed, invalid, last = result.stdout.splitlines()
    assert head.split() == ["outcome", "count", "meaning"]
    assert replayed.split()[:2] == ["replayed", "1"]
    assert invalid.split()[:2] == ["still_invalid", "2"]
    assert "1 not_json" in invalid
    assert "1 not_an_object" in invalid
    assert last.startswith(f"1 of 3 dead letters on {topic.dead_letter} replayed to")
    again = run(command(topic, tmp_path, "--output=json"))
    assert again.returncode == 0
    report = json.loads(again.stdout)
    assert report["trouble"] is None
    assert report["outcomes"]["replayed"] == 0
    assert report["outcomes"]["already_replayed"] == 1
    assert report["still_invalid"] == {"not_json": 1, "not_an_object": 1}


def test_a_dry_run_says_so_and_writes_nothing(topic: Topic, tmp_path: Path) -> None:
    """No record, no directory."""
    write(topic, [sent(payload("job-1"))])
    result = run(command(topic, tmp_path, "--dry-run"))
    assert result.returncode == 0
    last = result.stdout.splitlines()[-1]
    assert last.startswith("1 of 1 dead letters")
    assert last.endswith(f"would be replayed to {topic.name}. Nothing was written.")
    assert list(tmp_path.iterdir()) == []
    assert read(topic) == []
