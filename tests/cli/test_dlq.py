"""`bridge dlq` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
import subprocess
import time

from tests.cli.commands import DEADLINE_SECONDS, reading, run
from tests.conftest import Topic
from tests.consumer.dead_letters.letters import NOW_MS, Sent, sent, write


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
