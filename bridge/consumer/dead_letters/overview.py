"""
What stands on a dead-letter topic: how much of each reason, or its latest letters.

Owns what is kept of letters while a topic of any size is read. How it looks stands
in `view`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

import msgspec

from bridge.consumer.dead_letters.letter import Letter, as_letter
from bridge.consumer.reading import OnProgress, nobody_watches, read_through
from bridge.consumer.texts import plain
from bridge.kafka.reader import ConsumedRecord, Edge
from bridge.settings import KafkaSettings


__all__ = ["Example", "Reason", "Reasons", "latest_letters", "reasons_of"]

# The vocabulary has a dozen words. Whoever else writes to the topic may have more,
# but must not fill the memory with them.
_MAX_REASONS = 100

# What the rest is counted under.
OTHER_REASONS = "(others)"

# Of an example's value, what tells what it is.
_TEXT_CHARACTERS = 500


class Example(msgspec.Struct, frozen=True):
    """
    One letter, as an example.

    Attributes:
        place: Where it stands: topic-partition@offset.
        key: Its key as text, None where it has none.
        message: What was wrong with it.
    """

    place: str
    key: str | None
    message: str


class Reason(msgspec.Struct):
    """
    What is known of the letters of one reason.

    Attributes:
        reason: The word.
        count: How many there are.
        first_ms: The oldest one's timestamp, milliseconds since the epoch.
        last_ms: The latest one's.
        example: The latest one.
        head: How its value begins.
    """

    reason: str
    count: int
    first_ms: int
    last_ms: int
    example: Example
    head: bytes = b""

    @property
    def text(self) -> str:
        """How the example's value begins, what isn't printable shown as an escape."""
        shown = plain(self.head.decode(errors="backslashreplace"), _TEXT_CHARACTERS)
        # An escape has more characters than what it stands for.
        return shown[:_TEXT_CHARACTERS]


class Reasons:
    """Counts letters by reason, and keeps the latest of each as its example."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}

    def take(self, letter: Letter) -> None:
        """Take the next letter of its partition."""
        word = letter.reason
        if word not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            word = OTHER_REASONS
        at_ms = letter.record.timestamp_ms
        found = self._reasons.get(word)
        if found is None:
            example, head = _example(letter), _head(letter)
            self._reasons[word] = Reason(word, 1, at_ms, at_ms, example, head)
            return
        found.count += 1
        found.first_ms = min(found.first_ms, at_ms)
        if at_ms >= found.last_ms:
            found.last_ms = at_ms
            found.example, found.head = _example(letter), _head(letter)

    def most_frequent(self) -> list[Reason]:
        """Give the reasons, the most frequent first."""
        return sorted(self._reasons.values(), key=lambda one: (-one.count, one.reason))


async def reasons_of(
    settings: KafkaSettings,
    topic: str,
    *,
    since_ms: int | None = None,
    on_progress: OnProgress = nobody_watches,
) -> list[Reason]:
    """
    Read a dead-letter topic to the ends that it has now, and count by reason.

    Args:
        settings: How to reach the brokers.
        topic: What to read.
        since_ms: Where to start, milliseconds since the epoch; None starts at the
            beginning.
        on_progress: Is told how far it has come.

    Returns:
        The reasons, the most frequent first.

    Raises:
        KafkaError: The topic can't be read; the subclass says why.
        ConfigError: A certificate or key can't be used.
    """
    reasons = Reasons()

    async def take(run: Iterable[ConsumedRecord]) -> bool:
        for record in run:
            if _is_young(record, since_ms):
                reasons.take(as_letter(record))
        return False

    start = Edge.BEGINNING if since_ms is None else since_ms
    await read_through(settings, topic, take, start=start, on_progress=on_progress)
    return reasons.most_frequent()


async def latest_letters(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    chosen: Callable[[Letter], bool],
    limit: int,
    *,
    since_ms: int | None = None,
    on_progress: OnProgress = nobody_watches,
) -> tuple[list[Letter], int]:
    """
    Read a dead-letter topic to the ends that it has now, and keep its latest letters.

    Args:
        settings: How to reach the brokers.
        topic: What to read.
        chosen: Tells which letters are wanted.
        limit: How many are kept.
        since_ms: As in `reasons_of`.
        on_progress: As in `reasons_of`.

    Returns:
        The latest ones by their timestamps, the newest last, and how many there are.

    Raises:
        KafkaError: The topic can't be read; the subclass says why.
        ConfigError: A certificate or key can't be used.
    """
    # The oldest one of those kept is the first to go.
    kept: list[tuple[tuple[int, int, int], Letter]] = []
    count = 0

    async def take(run: Iterable[ConsumedRecord]) -> bool:
        nonlocal count
        for record in run:
            letter = as_letter(record)
            if not (_is_young(record, since_ms) and chosen(letter)):
                continue
            count += 1
            order = (record.timestamp_ms, record.partition, record.offset)
            heapq.heappush(kept, (order, letter))
            if len(kept) > limit:
                heapq.heappop(kept)
        return False

    start = Edge.BEGINNING if since_ms is None else since_ms
    await read_through(settings, topic, take, start=start, on_progress=on_progress)
    return [letter for _, letter in sorted(kept, key=lambda one: one[0])], count


def _is_young(record: ConsumedRecord, since_ms: int | None) -> bool:
    """Judge each: reading begins with the first of that age, older ones may follow."""
    return since_ms is None or record.timestamp_ms >= since_ms


def _example(letter: Letter) -> Example:
    key = letter.record.key
    text = None if key is None else key.decode(errors="backslashreplace")
    return Example(letter.place, text, letter.message)


def _head(letter: Letter) -> bytes:
    # A character has at most four bytes.
    return (letter.record.value or b"")[: 4 * _TEXT_CHARACTERS]
