"""
How dead letters look: a table by reason, single letters, or JSON.

Owns words, columns and colours, and that nothing from a letter reaches the terminal
as a command to it: what isn't printable is shown as an escape.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.consumer.dead_letters.judge import Outcome
from bridge.consumer.dead_letters.letter import Letter
from bridge.consumer.dead_letters.overview import Reason
from bridge.consumer.dead_letters.replaying import Choice, Tally
from bridge.consumer.lines import json_line
from bridge.consumer.texts import plain, utc
from bridge.text import printable_json


__all__ = [
    "letters_as_lines",
    "reasons_as_json",
    "show_letters",
    "show_reasons",
    "show_tally",
    "tally_as_json",
]

# From which width on the example is a column; else it is a line.
_EXAMPLE_FROM_COLUMNS = 110
# Of a value, what tells what it is; the rest is for --json.
_SHOWN_BYTES = 160


def show_reasons(topic: str, reasons: Sequence[Reason], console: Console) -> None:
    """Print how many dead letters there are of each reason."""
    total = sum(one.count for one in reasons)
    if not total:
        console.print(Text(f"{plain(topic)} holds no dead letters."), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("reason", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first (UTC)", no_wrap=True)
    table.add_column("last (UTC)", no_wrap=True)
    is_wide = console.width >= _EXAMPLE_FROM_COLUMNS
    if is_wide:
        table.add_column("the last one", overflow="fold")
    for one in reasons:
        table.add_row(
            Text(plain(one.reason)),
            f"{one.count:,}",
            utc(one.first_ms),
            utc(one.last_ms),
            *([_example(one)] if is_wide else []),
        )
    console.print(table)
    for one in [] if is_wide else reasons:
        line = Text.assemble("the last ", (plain(one.reason), "bold"), ": ")
        console.print(line.append_text(_example(one)), soft_wrap=True)
    letters = "dead letter" if total == 1 else "dead letters"
    console.print(
        Text(
            f"{total:,} {letters} on {plain(topic)}. --reason WORD shows single ones."
        ),
        soft_wrap=True,
    )


def _example(reason: Reason) -> Text:
    example = reason.example
    text = Text(plain(example.place))
    if example.key is not None:
        text.append(f" {plain(example.key)}", style="bold")
    if example.message:
        text.append(f": {plain(example.message)}", style="dim")
    return text


def show_letters(
    topic: str, letters: Sequence[Letter], count: int, console: Console
) -> None:
    """Print letters, three lines each, and how many there are in all."""
    for letter in letters:
        record = letter.record
        head = Text(plain(letter.place), style="bold")
        head.append(f"  {utc(record.timestamp_ms)}  ", style="not bold")
        head.append(plain(letter.reason), style="not bold yellow")
        if record.key is not None:
            head.append(f"  {plain(record.key.decode(errors='backslashreplace'))}")
        console.print(head, soft_wrap=True)
        if letter.message:
            console.print(Text(f"  {plain(letter.message)}"), soft_wrap=True)
        console.print(Text(f"  {_value(record.value)}", style="dim"), soft_wrap=True)
    shown = f"{len(letters):,} of {count:,}" if len(letters) < count else f"{count:,}"
    more = ", the newest last" if len(letters) > 1 else ""
    letters_ = "dead letter" if count == 1 else "dead letters"
    console.print(Text(f"{shown} {letters_} on {plain(topic)}{more}."), soft_wrap=True)


def _value(value: bytes | None) -> str:
    if value is None:
        return "null"
    # A character has at most four bytes: one more than is shown is enough.
    head = value[:_SHOWN_BYTES].decode(errors="backslashreplace")
    rest = f"… ({len(value):,} bytes)" if len(value) > _SHOWN_BYTES else ""
    # Each byte that is no text takes four characters.
    return plain(head, 4 * _SHOWN_BYTES) + rest


def reasons_as_json(topic: str, reasons: Sequence[Reason]) -> bytes:
    """Write the table as one JSON object; times in milliseconds become RFC 3339."""
    encoded = {
        "topic": topic,
        "count": sum(one.count for one in reasons),
        "reasons": [
            {
                "reason": one.reason,
                "count": one.count,
                "first": utc(one.first_ms),
                "last": utc(one.last_ms),
                "example": msgspec.to_builtins(one.example),
            }
            for one in reasons
        ],
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(encoded)))


def letters_as_lines(letters: Sequence[Letter]) -> bytes:
    """Write letters as lines of JSON, as `bridge tail` writes records."""
    return b"".join(json_line(letter.record) for letter in letters)


def show_tally(choice: Choice, tally: Tally, console: Console, *, is_dry: bool) -> None:
    """Print what became of dead letters in a replay, or would."""
    outcomes = [outcome for outcome in Outcome if tally.outcomes[outcome]]
    if outcomes:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("outcome", no_wrap=True)
        table.add_column("count", justify="right", no_wrap=True)
        table.add_column("meaning", overflow="fold")
        for outcome in outcomes:
            meaning = outcome.meaning
            if is_dry and outcome is Outcome.REPLAYED:
                meaning = "valid now, and would go to the topic of jobs"
            if outcome is Outcome.STILL_INVALID:
                parts = [f"{n:,} {word}" for word, n in tally.invalid.most_common()]
                meaning = f"{meaning}: {', '.join(parts)}"
            table.add_row(outcome.value, f"{tally.outcomes[outcome]:,}", Text(meaning))
        console.print(table)
    replayed, letters = tally.outcomes[Outcome.REPLAYED], tally.letters
    what = "would be replayed" if is_dry else "replayed"
    end = "Nothing was written." if is_dry else "The others stay where they are."
    console.print(
        Text(
            f"{replayed:,} of {letters:,} dead letters on "
            f"{plain(choice.dead_letter_topic)} {what} to {plain(choice.topic)}. {end}"
        ),
        soft_wrap=True,
    )


def tally_as_json(choice: Choice, tally: Tally, **more: object) -> bytes:
    """Write the same as one JSON object."""
    encoded = {
        "topic": choice.topic,
        "dead_letter_topic": choice.dead_letter_topic,
        **more,
        "letters": tally.letters,
        "outcomes": {outcome.value: tally.outcomes[outcome] for outcome in Outcome},
        "still_invalid": dict(tally.invalid),
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(encoded)))
