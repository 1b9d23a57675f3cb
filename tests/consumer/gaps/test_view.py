"""How gaps look at different widths, and as JSON."""

from __future__ import annotations

import io
import json

from rich.console import Console

from bridge.consumer.gaps import Choice, Folded, Overview, show_overview
from bridge.consumer.gaps.view import overview_as_json
from tests.consumer.gaps.ledger import records, settled, value


def overview_of(*values: bytes | None, most: int = 100) -> Overview:
    """Fold records of these values."""
    folded = Folded(most)
    for record in records(values):
        folded.take(record)
    return folded.overview(Choice())


def shown(overview: Overview, width: int = 160) -> list[str]:
    """Show it without colours, and give the lines."""
    out = io.StringIO()
    show_overview("jobs.gaps", overview, Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_narrow_table_leaves_the_end_to_the_seconds() -> None:
    """On 80 columns a row is whole; healed is one number."""
    lines = shown(overview_of(settled(), value("g-2"), value("g-3", since=None)), 80)
    assert [" ".join(line.split()) for line in lines[:4]] == [
        "since (UTC) seconds cause account jobs healed unknown state",
        "- - disconnected client-42 3 - - closed",
        "01-31 12:00:00 7.2 disconnected client-42 3 3 0 settled",
        "01-31 12:00:00 7.2 disconnected client-42 3 - - closed",
    ]


def test_what_is_no_gap_and_what_had_no_room_are_notes() -> None:
    """They are counted, and the first are named."""
    values = [value(f"g-{number}") for number in range(3)]
    lines = shown(overview_of(*values, b"[]", *[None] * 4, most=2))
    assert "note: 1 older gaps had no room and are left out." in lines
    assert lines[-1] == (
        "note: 5 records are no gap: jobs.gaps-0@3 (Expected `object`, got `array`); "
        "jobs.gaps-0@4 (it has no value); jobs.gaps-0@5 (it has no value) and 2 more."
    )


def test_json_has_gaps_as_their_records_have_them() -> None:
    """Members and times are those of the topic, with what is made of them."""
    report = json.loads(overview_as_json("jobs.gaps", overview_of(settled(), b"x")))
    assert report["gaps"] == [
        {
            "gap_id": "g-1",
            "cause": "disconnected",
            "client_id": "client-42",
            "since": "2026-01-31T12:00:00.000000Z",
            "until": "2026-01-31T12:00:07.250000Z",
            "jobs_in_flight": 3,
            "healed_by_status_endpoint": 2,
            "healed_by_webhook": 1,
            "unknown": 0,
            "seconds": 7.25,
            "state": "settled",
        }
    ]
    assert report["totals"] == {
        "gaps": 1,
        "open": 0,
        "closed": 0,
        "settled": 1,
        "seconds": 7.25,
        "causes": {"disconnected": {"gaps": 1, "seconds": 7.25}},
        "jobs_in_flight": 3,
        "healed_by_status_endpoint": 2,
        "healed_by_webhook": 1,
        "unknown": 0,
    }
    assert report["left_out"] == 0
    assert report["no_gaps"] == {
        "count": 1,
        "first": [{"place": "jobs.gaps-0@1", "reason": "it is no JSON"}],
    }
