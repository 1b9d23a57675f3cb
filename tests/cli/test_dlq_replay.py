"""`bridge dlq replay` as a process: kills, signals, and what it says at its end."""

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
from tests.consumer.dead_letters.letters import payload, sent, write
from tests.consumer.verify.topics import report_on
from tests.kit.reader import Record, read_topic


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
    """Killed again and again, and told to stop: at the end each is there once."""
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
