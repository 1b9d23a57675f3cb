"""Whether the counts of a run agree."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from tests.local_run.summary import Totals, summary_table


_AGREEING = Totals(
    emitted=1_000,
    read=1_000,
    healed=7,
    gaps=0,
    on_topic=997,
    distinct=997,
    consumed=997,
    dead_letters=10,
    on_dead_letter_topic=10,
    waiting=0,
)


def test_counts_that_account_for_every_event_agree() -> None:
    """Each event is on the topic once or among the dead letters: nothing is said."""
    assert _AGREEING.differences() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"emitted": 1_001}, ["the bridge read 1,000 of 1,001"]),
        ({"emitted": 999, "gaps": 1}, ["the bridge read 1,000 of 999"]),
        ({"on_topic": 989, "distinct": 989, "consumed": 989}, ["989 are on the topic"]),
        ({"healed": 8}, ["1,000 events read and 8 healed 997 are on the topic"]),
        ({"distinct": 987}, ["10 records are duplicates"]),
        ({"consumed": 900}, ["the live view read 900 of 997"]),
        ({"dead_letters": 9}, ["counted 9 dead letters, 10 are on"]),
        ({"waiting": 3}, ["3 records still wait"]),
        (
            dict.fromkeys((f.name for f in dataclasses.fields(Totals)), 0),
            ["emitted nothing"],
        ),
    ],
)
def test_each_difference_is_said(changes: dict[str, int], words: list[str]) -> None:
    """Whatever doesn't agree is named with both numbers."""
    found = dataclasses.replace(_AGREEING, **changes).differences()
    assert len(found) == len(words)
    for sentence, part in zip(found, words, strict=True):
        assert part in sentence


def lines_of(delays_seconds: list[float], totals: Totals = _AGREEING) -> list[str]:
    """The table's lines on a terminal of 80 columns."""
    out = io.StringIO()
    Console(file=out, width=80).print(summary_table(totals, delays_seconds))
    return out.getvalue().splitlines()


def test_the_table_has_counts_and_delays() -> None:
    """Every count has its row, and p50 and p99 stand in milliseconds."""
    text = "\n".join(lines_of([0.001 * n for n in range(1, 101)]))
    for words, number in (
        ("emitted by the sandbox", "1,000"),
        ("read by the bridge", "1,000"),
        ("told on another way", "7"),
        ("on the topic", "997"),
        ("dead letters", "10"),
        ("p50 from emission to consumption", "50.0 ms"),
        ("p99 from emission to consumption", "99.0 ms"),
    ):
        assert any(words in line and number in line for line in text.splitlines())


def test_what_a_gap_has_swallowed_has_a_row() -> None:
    """Events that came while nobody was subscribed are no difference."""
    totals = dataclasses.replace(_AGREEING, emitted=1_234, gaps=2)
    assert totals.differences() == []
    (row,) = [line for line in lines_of([], totals) if "missed, with gaps: 2" in line]
    assert "234" in row


def test_without_stamped_events_there_are_no_delays() -> None:
    """A run whose events carry no time shows a dash."""
    assert [line for line in lines_of([]) if "p99" in line and " - " in line]
