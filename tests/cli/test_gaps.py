"""`bridge gaps` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.cli.commands import reading, run
from tests.conftest import Topic
from tests.consumer.dead_letters.letters import Sent, write
from tests.consumer.gaps.ledger import settled, value, values_of_ledger


_NOON = "2026-01-31T12:00:"


def tell(topic: Topic, values: Iterable[bytes | None]) -> None:
    """Write the records of gaps."""
    sent = [Sent(value, b"client-42", {}) for value in values]
    write(topic, sent, name=topic.gaps)


def test_the_ledger_is_a_table_with_its_totals(topic: Topic) -> None:
    """Each gap once as its last record has it, and what was lost for good."""
    tell(topic, [*values_of_ledger(), b"no gap"])
    result = run(reading(topic, "gaps"))
    assert (result.returncode, result.stderr) == (0, "")
    *rows, gaps, jobs, note = result.stdout.splitlines()
    at = "2026-01-31T"
    columns = "since (UTC) until (UTC) seconds cause account"
    assert [" ".join(row.split()) for row in rows] == [
        f"{columns} in flight endpoint webhook unknown state",
        f"{at}12:00:00Z - - deaf client-42 - - - - open",
        f"- {at}11:59:30Z - first_start client-7 0 - - - closed",
        f"{at}11:59:00Z {at}11:59:04Z 4.5 stopped client-42 4 1 2 1 resolved",
    ]
    assert gaps == (
        f"3 gaps on {topic.gaps} (1 open, 1 closed, 1 resolved), 4.5 s in all: "
        "1 deaf (0.0 s), 1 first_start (0.0 s), 1 stopped (4.5 s)."
    )
    assert jobs == (
        "4 jobs in flight, 1 healed by the status endpoint, 2 by webhooks, 1 unknown: "
        "lost for good unless the endpoint or a webhook still reports them. "
        "A job counts once for each of its gaps. 2 gaps not resolved yet."
    )
    assert note.startswith(f"note: 1 record isn't a gap: {topic.gaps}-0@")


def test_gaps_are_chosen_and_written_as_json(topic: Topic) -> None:
    """By account, cause, time and state; a cause that no gap has is reported."""
    now = datetime.now(UTC).isoformat()
    tell(
        topic,
        [
            settled("a", unknown=2),
            settled("b", client_id="other"),
            settled("c", until=now, unknown=1),
            value("d", cause="deaf", until=None),
            b"x",
        ],
    )

    def report(*options: str) -> dict[str, Any]:
        result = run(reading(topic, "gaps", "--output=json", *options))
        assert result.returncode == 0
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def chosen(*options: str) -> list[str]:
        return [gap["gap_id"] for gap in report(*options)["gaps"]]

    assert sorted(chosen("--client-id", "client-42")) == ["a", "c", "d"]
    assert chosen("--unknown", "--since", "1h") == ["c"]
    # Those that were open then, whenever they had begun.
    assert sorted(chosen("--since", "1h")) == ["c", "d"]
    assert chosen("--open") == chosen("--cause", "deaf") == ["d"]
    # Members and times are those of the record, with what follows from them.
    counts = {
        "jobs_in_flight": 3,
        "healed_by_status_endpoint": 2,
        "healed_by_webhook": 1,
        "unknown": 0,
    }
    gap = {"gap_id": "b", "cause": "disconnected", "client_id": "other"}
    times = {"since": f"{_NOON}00.000000Z", "until": f"{_NOON}07.250000Z"}
    found = {"seconds": 7.25, "state": "resolved"}
    causes = {"disconnected": {"gaps": 1, "seconds": 7.25}}
    states = {"open": 0, "closed": 0, "resolved": 1}
    assert report("--client-id", "other") == {
        "topic": topic.gaps,
        "gaps": [gap | times | counts | found],
        "totals": {"gaps": 1, "seconds": 7.25, "causes": causes} | states | counts,
        "left_out": 0,
        "invalid": {
            "count": 1,
            "first": [{"place": f"{topic.gaps}-0@4", "reason": "it isn't JSON"}],
        },
    }
    result = run(reading(topic, "gaps", "--cause", "def"))
    assert result.stdout.startswith(f"{topic.gaps} has no such gaps.\nnote: 1 record")
    assert result.stderr == (
        "bridge: no gap has the cause 'def'; the causes are 'deaf', 'disconnected'.\n"
    )
