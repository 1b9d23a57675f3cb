"""`bridge gaps` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from tests.cli.commands import reading, run
from tests.conftest import Topic
from tests.consumer.dead_letters.letters import Sent, write
from tests.consumer.gaps.ledger import settled, value, values_of_ledger


def tell(topic: Topic, values: Iterable[bytes | None]) -> None:
    """Write the records of gaps."""
    sent = [Sent(value, b"client-42", {}) for value in values]
    write(topic, sent, name=topic.gaps)


def test_the_ledger_is_a_table_with_its_totals(topic: Topic) -> None:
    """Each gap once as its last record has it, and what was lost for good."""
    tell(topic, [*values_of_ledger(), b"no gap"])
    result = run(reading(topic, "gaps"))
    assert (result.returncode, result.stderr) == (0, "")
    head, deaf, start, stopped, gaps, jobs, note = result.stdout.splitlines()
    assert head.split()[:2] == ["since", "(UTC)"]
    assert (deaf.split()[3], deaf.split()[-1]) == ("deaf", "open")
    assert start.split()[-1] == "closed"
    assert stopped.split()[-6:] == ["client-42", "4", "1", "2", "1", "settled"]
    assert gaps.startswith(f"3 gaps on {topic.gaps} (1 open, 1 closed, 1 settled)")
    assert "1 unknown: lost for good" in jobs
    assert note.startswith(f"note: 1 record is no gap: {topic.gaps}-0@")


def test_gaps_are_chosen_and_written_as_json(topic: Topic) -> None:
    """By account, cause, time and state; a cause that no gap has is told."""
    now = datetime.now(UTC).isoformat()
    tell(
        topic,
        [
            settled("a", unknown=2),
            settled("b", client_id="other"),
            settled("c", until=now, unknown=1),
            value("d", cause="deaf", until=None),
        ],
    )

    def chosen(*options: str) -> list[str]:
        result = run(reading(topic, "gaps", "--json", *options))
        assert result.returncode == 0
        report = json.loads(result.stdout)
        assert report["totals"]["gaps"] == len(report["gaps"])
        return [gap["gap_id"] for gap in report["gaps"]]

    assert sorted(chosen("--client-id", "client-42")) == ["a", "c", "d"]
    assert chosen("--unknown", "--since", "1h") == ["c"]
    assert chosen("--open") == ["d"]
    result = run(reading(topic, "gaps", "--cause", "def"))
    assert result.stdout == f"{topic.gaps} holds no gaps such as those.\n"
    assert result.stderr == (
        "bridge: no gap has the cause 'def'; those that are there: 'deaf', "
        "'disconnected'.\n"
    )
