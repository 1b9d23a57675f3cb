"""What a topic tells of each job: its records in order, how each was learned of.

Pure: records come in, courses and what is wrong with them go out. It imports nothing
of the bridge. What should stand there is judged by `healing_verdict`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.fates import TERMINAL, Fate
from tests.kit.reader import Record


__all__ = ["Course", "Word", "hear"]

_RANKS = {"processing": 0, "in_progress": 1, "done": 2, "error": 2}


@dataclass(frozen=True)
class Word:
    """
    One record of a job; times are seconds since the epoch.

    Attributes:
        status: What it says.
        origin: How the bridge learned of it.
        read: When the bridge learned of it.
        seen: When a consumer had it.
        place: Where it stands.
        value: All that it says.
    """

    status: str
    origin: str
    read: float
    seen: float
    place: str
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Course:
    """
    All records of a job, without repeats.

    Attributes:
        words: They, by offset.
    """

    words: Sequence[Word]

    @property
    def end(self) -> Word | None:
        """The first terminal one; None without any."""
        return next((word for word in self.words if word.status in TERMINAL), None)

    @property
    def first(self) -> Word:
        """The first one."""
        return self.words[0]

    @property
    def last_heard(self) -> float:
        """When it was heard of last before its end; minus infinity if never."""
        before = [word.read for word in self.words if word.status not in TERMINAL]
        return max(before, default=float("-inf"))


def hear(
    records: Sequence[Record], seen: Mapping[tuple[int, int], float]
) -> tuple[dict[str, dict[str, Course]], list[str], int]:
    """
    Put the records of a topic in order.

    Args:
        records: All of it, by partition and offset.
        seen: When a consumer had the record of a partition and an offset; what it
            has not seen counts as seen at the end of time.

    Returns:
        The courses of each account by `request_id`, what is wrong with the records,
        and how many stand there once more with the same identity.
    """
    words: dict[tuple[str, str], list[Word]] = defaultdict(list)
    partitions: dict[tuple[str, str], int] = {}
    identities: dict[bytes, Record] = {}
    found: list[str] = []
    repeats = 0
    for record in records:
        place = f"{record.partition}/{record.offset}"
        known = identities.setdefault(record.headers["ce_id"], record)
        if known is not record:
            repeats += 1
            if (known.key, known.value) != (record.key, record.value):
                found.append(f"one identity names two records, the second at {place}")
            continue
        assert record.key is not None
        assert record.value is not None
        source = record.headers["ce_source"].decode().rpartition("/")[2]
        job = source, record.key.decode()
        if partitions.setdefault(job, record.partition) != record.partition:
            found.append(f"job {job[1]} is on two partitions, the second at {place}")
        if "bridge_anomaly" in record.headers:
            what = record.headers["bridge_anomaly"].decode()
            found.append(f"job {job[1]}: {what} at {place}")
        value = json.loads(record.value)
        words[job].append(
            Word(
                value["status"],
                record.headers["bridge_origin"].decode(),
                record.timestamp / 1000,
                seen.get((record.partition, record.offset), float("inf")),
                place,
                value,
            )
        )
    courses: dict[str, dict[str, Course]] = defaultdict(dict)
    for (source, request_id), said in words.items():
        courses[source][request_id] = Course(said)
    return courses, found, repeats


def check_course(fate: Fate, course: Course) -> Iterable[str]:
    """Say what is wrong with a job's records beside what it was upstream."""
    name = f"job {fate.request_id}"
    ends = [word for word in course.words if word.status in TERMINAL]
    if len(ends) > 1:
        places = ", ".join(f"{word.status} at {word.place}" for word in ends)
        yield f"{name} has {len(ends)} terminal records: {places}"
    if ends and course.words[-1] is not ends[-1]:
        yield f"{name}: {course.words[-1].status} behind its end at {ends[-1].place}"
    if ends:
        yield from _check_end(name, fate, ends[0])
    rank = 0
    for word in course.words:
        if _RANKS[word.status] < rank:
            yield f"{name}: {word.status} at {word.place} is a step back"
        rank = max(rank, _RANKS[word.status])
    steps = iter(fate.steps)
    for word in course.words:
        if word.origin != "socket":
            continue
        says = word.status, word.value["progress"]
        # A subsequence: each one stands behind the one before.
        if not any((step.status, step.progress) == says for step in steps):
            yield f"{name}: {says} at {word.place} was no event, or not in this order"
            return


def _check_end(name: str, fate: Fate, word: Word) -> Iterable[str]:
    end = fate.end
    if end is None:
        yield f"{name}: {word.status} at {word.place}, and it runs"
    elif end.status != word.status:
        yield f"{name}: {word.status} at {word.place}, and it is {end.status}"
    elif word.origin == "webhook" and word.value.get("error_code") != fate.error_code:
        yield (
            f"{name}: error_code {word.value.get('error_code')!r} at {word.place}, and"
            f" it is {fate.error_code!r}"
        )
