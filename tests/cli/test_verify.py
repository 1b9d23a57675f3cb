"""`bridge verify` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
from pathlib import Path

from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.cli.commands import ESCAPES, reading, run
from tests.conftest import Topic
from tests.consumer.verify.topics import Sent, rows, write
from tests.outbox.making import record


def test_issues_end_with_1(topic: Topic) -> None:
    """Each is a line with topic, partition and offset."""
    write(topic, [*rows(1, 4, 4), Sent(1, outbox=f"x{ESCAPES}")])
    result = run(reading(topic, "verify"))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{topic.name}-0@1 hole: sequences 2-3 of outbox ")
    assert lines[0].endswith(", after offset 0")
    assert lines[1].startswith(f"{topic.name}-0@2 duplicate: sequence 4 of outbox ")
    assert lines[-1].startswith("Not clean: 2 hole (sequences that no record has); 1 ")
    assert "\x1b" not in result.stdout


def test_the_outbox_is_asked(topic: Topic, tmp_path: Path) -> None:
    """A row that it holds for delivered and that isn't there is an issue."""
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=tmp_path))
        outbox.open_topic(topic.name, 1, None)
        outbox.continue_behind(topic.name, {0: (0, 0, ())})
        outbox.offer([record("job-1", topic=topic.name) for _ in range(5)])
        outbox.commit()
        outbox.acknowledge(topic.name, 0, 1, 3, 0, 10)
        outbox.close()
    flag = f"--outbox-dir={tmp_path}"
    result = run(reading(topic, "verify", flag, "--output=json"))
    assert (result.returncode, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    assert report["counts"] == {"missing_end": 3}
    (outbox_,) = report["outboxes"]
    assert (outbox_["end"], outbox_["waiting"]) == ("missing", 2)
