"""
Dead letters for people: how many there are of each reason, or the latest of one.

What is kept of a topic of any size is bounded. `replay` publishes them again.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.console import Console
from rich.text import Text

from bridge.consumer.reading import OnProgress, place, read_all
from bridge.consumer.render import (
    counted,
    escaped,
    json_line,
    json_object,
    print_line,
    print_table,
    utc,
)
from bridge.events import header_names as names
from bridge.kafka.reader import ConsumedRecord
from bridge.settings import KafkaSettings


__all__ = [
    "NO_REASON",
    "Letter",
    "Reason",
    "Reasons",
    "as_letter",
    "latest_letters",
    "letters_as_lines",
    "reasons_as_json",
    "reasons_of",
    "received_at_us",
    "show_letters",
    "show_reasons",
]

# The reason of a letter without one: another program's. A bridge's has no brackets.
NO_REASON = "(none)"

# The vocabulary has a dozen words. Another program may write more of them, but must not
# fill the memory; the rest is counted together.
_MAX_REASONS = 100
OTHER_REASONS = "(others)"

# Text of a header that is kept.
_MAX_TEXT = 300
# Of an example's value, what shows what it is.
_TEXT_CHARACTERS = 500
# Of a value in a list; --output json has all of it.
_SHOWN_BYTES = 160

# From which width on the example is a column; else it is a line.
_EXAMPLE_FROM_COLUMNS = 110


class Letter(msgspec.Struct, frozen=True):
    """One dead letter."""

    record: ConsumedRecord
    reason: str  # the header `bridge_reason`, or `NO_REASON`
    message: str  # what was wrong, in a sentence; empty if no header has it

    @property
    def place(self) -> str:
        """Where it is: topic-partition@offset."""
        return place(self.record)

    @property
    def key(self) -> str | None:
        """Its key as text, None where it has none."""
        key = self.record.key
        return None if key is None else key.decode(errors="backslashreplace")

    @property
    def ce_id(self) -> str | None:
        """Its identity, which no other letter has; None if no bridge wrote it."""
        return self.header(names.CE_ID)

    def header(self, name: str) -> str | None:
        """Return a header as text, None where it is missing or empty."""
        value = self.record.headers.get(name)
        return value[:_MAX_TEXT].decode(errors="backslashreplace") if value else None


def as_letter(record: ConsumedRecord) -> Letter:
    """Read the headers that say why a record is a dead letter."""
    letter = Letter(record, NO_REASON, "")
    return Letter(
        record,
        letter.header(names.BRIDGE_REASON) or NO_REASON,
        letter.header(names.ERROR_MESSAGE) or letter.header(names.ERROR_CLASS) or "",
    )


def received_at_us(record: ConsumedRecord) -> int:
    """Return when a bridge read a record's event, in microseconds since the epoch."""
    time = record.headers.get(names.CE_TIME, b"")
    try:
        moment = datetime.fromisoformat(time.decode())
        # Whole seconds first: a double has no microseconds to spare at this size.
        seconds = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError):
        return max(record.timestamp_ms, 0) * 1000
    return max(seconds * 1_000_000 + moment.microsecond, 0)


class Example(msgspec.Struct, frozen=True):
    """One letter of a reason: its place, its key as text, and what was wrong."""

    place: str
    key: str | None
    message: str


class Reason(msgspec.Struct):
    """What is known of the letters of one reason."""

    reason: str
    count: int
    first_ms: int
    last_ms: int
    example: Example  # the latest one
    head: bytes = b""  # the first bytes of its value

    @property
    def text(self) -> str:
        """The first characters of the example's value, escaped."""
        shown = escaped(self.head.decode(errors="backslashreplace"), _TEXT_CHARACTERS)
        # An escape has more characters than what it replaces.
        return shown[:_TEXT_CHARACTERS]


class Reasons:
    """Counts letters by reason, and keeps the latest of each as its example."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}

    def take(self, letter: Letter) -> None:
        """Accept the next letter of its partition."""
        word, at_ms = letter.reason, letter.record.timestamp_ms
        if word not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            word = OTHER_REASONS
        example = Example(letter.place, letter.key, letter.message)
        # A character has at most four bytes.
        head = (letter.record.value or b"")[: 4 * _TEXT_CHARACTERS]
        one = self._reasons.get(word)
        if one is None:
            self._reasons[word] = Reason(word, 1, at_ms, at_ms, example, head)
            return
        one.count += 1
        one.first_ms = min(one.first_ms, at_ms)
        if at_ms >= one.last_ms:
            one.last_ms, one.example, one.head = at_ms, example, head

    def most_frequent(self) -> list[Reason]:
        """Return the reasons, the most frequent first."""
        return sorted(self._reasons.values(), key=lambda one: (-one.count, one.reason))


async def reasons_of(
    settings: KafkaSettings,
    topic: str,
    *,
    since_ms: int | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> list[Reason]:
    """
    Read a dead-letter topic to its present ends, and count by reason.

    The most frequent reason comes first. Raises as `read_through` does.
    """
    reasons = Reasons()

    def take(record: ConsumedRecord) -> None:
        reasons.take(as_letter(record))

    await read_all(settings, topic, take, since_ms=since_ms, on_progress=on_progress)
    return reasons.most_frequent()


async def latest_letters(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    reason: str,
    limit: int,
    *,
    since_ms: int | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> tuple[list[Letter], int]:
    """
    Read a dead-letter topic to its present ends, and keep the latest of a reason.

    They come by their timestamps, the newest last, with the number that there are.
    Raises as `read_through` does.
    """
    kept: list[tuple[tuple[int, int, int], Letter]] = []
    count = 0

    def take(record: ConsumedRecord) -> None:
        nonlocal count
        letter = as_letter(record)
        if letter.reason == reason:
            count += 1
            order = (record.timestamp_ms, record.partition, record.offset)
            heapq.heappush(kept, (order, letter))
            if len(kept) > limit:
                heapq.heappop(kept)

    await read_all(settings, topic, take, since_ms=since_ms, on_progress=on_progress)
    return [letter for _, letter in sorted(kept, key=lambda one: one[0])], count


# -- What people and programs get -----------------------------------------------------


def show_reasons(topic: str, reasons: Sequence[Reason], console: Console) -> None:
    """Print how many dead letters there are of each reason."""
    total = sum(one.count for one in reasons)
    if not total:
        print_line(console, f"{escaped(topic)} has no dead letters.")
        return
    columns = {"reason": "left", "count": "right"}
    columns |= {"first (UTC)": "left", "last (UTC)": "left"}
    is_wide = console.width >= _EXAMPLE_FROM_COLUMNS
    rows: list[list[object]] = [
        [one.reason, one.count, utc(one.first_ms), utc(one.last_ms)] for one in reasons
    ]
    if is_wide:
        columns["latest"] = "fold"
        for row, one in zip(rows, reasons, strict=True):
            row.append(_example(one.example))
    print_table(console, columns, rows)
    for one in [] if is_wide else reasons:
        head = (escaped(one.reason), "bold")
        print_line(console, "latest ", head, ": ", _example(one.example))
    letters = counted(total, "dead letter")
    print_line(console, f"{letters} on {escaped(topic)}. --reason WORD lists them.")


def _example(example: Example) -> Text:
    text = Text(escaped(example.place))
    if example.key is not None:
        text.append(f" {escaped(example.key)}", style="bold")
    if example.message:
        text.append(f": {escaped(example.message)}", style="dim")
    return text


def show_letters(
    topic: str, letters: Sequence[Letter], count: int, console: Console
) -> None:
    """Print letters, three lines each, and how many there are in all."""
    for letter in letters:
        print_line(
            console,
            (escaped(letter.place), "bold"),
            f"  {utc(letter.record.timestamp_ms)}  ",
            (escaped(letter.reason), "yellow"),
            "" if letter.key is None else f"  {escaped(letter.key)}",
        )
        if letter.message:
            print_line(console, f"  {escaped(letter.message)}")
        print_line(console, (f"  {_value(letter.record.value)}", "dim"))
    shown = f"{len(letters):,} of " if len(letters) < count else ""
    more = ", the newest last" if len(letters) > 1 else ""
    print_line(
        console, f"{shown}{counted(count, 'dead letter')} on {escaped(topic)}{more}."
    )


def _value(value: bytes | None) -> str:
    if value is None:
        return "null"
    head = value[:_SHOWN_BYTES].decode(errors="backslashreplace")
    rest = f"… ({len(value):,} bytes)" if len(value) > _SHOWN_BYTES else ""
    # Each byte that isn't text takes four characters.
    return escaped(head, 4 * _SHOWN_BYTES) + rest


def reasons_as_json(topic: str, reasons: Sequence[Reason]) -> bytes:
    """Write the table as one JSON object."""
    return json_object(
        {
            "topic": topic,
            "count": sum(one.count for one in reasons),
            "reasons": [
                {
                    "reason": one.reason,
                    "count": one.count,
                    "first": utc(one.first_ms),
                    "last": utc(one.last_ms),
                    "example": one.example,
                }
                for one in reasons
            ],
        }
    )


def letters_as_lines(letters: Sequence[Letter]) -> bytes:
    """Write letters as lines of JSON, as `bridge tail` writes records."""
    return b"".join(json_line(letter.record) for letter in letters)
