"""What judges a benchmark's topic finds each way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.traffic import Traffic
from benchmarks.verification import Verdict, verify
from tests.kit.reader import Record


_TRAFFIC = Traffic(events=12, jobs=4)


def _topic() -> list[Record]:
    """Make a flawless topic of two partitions, with jobs 0 and 2 on the first."""
    return [
        Record(
            partition=partition,
            offset=offset,
            key=_TRAFFIC.request_id(index).encode(),
            value=_TRAFFIC.payload(index).encode(),
            headers={"bridge_sequence": b"%d" % (offset + 1)},
            timestamp=0,
        )
        for partition in range(2)
        for offset, index in enumerate(
            index for index in range(12) if index % 4 % 2 == partition
        )
    ]


def _swapped(topic: list[Record]) -> list[Record]:
    """Let two events of the first job change places."""
    first, third = topic[0], topic[2]
    assert first.key == third.key
    topic[0] = replace(first, value=third.value)
    topic[2] = replace(third, value=first.value)
    return topic


def _moved(topic: list[Record]) -> list[Record]:
    """Put a job's last event on the other partition."""
    stray = replace(topic.pop(5), partition=1, headers={"bridge_sequence": b"7"})
    return [*topic, stray]


_CASES: dict[str, tuple[Callable[[list[Record]], list[Record]], Verdict]] = {
    "flawless": (lambda topic: topic, Verdict()),
    "lost": (lambda topic: topic[:2] + topic[3:], Verdict(lost=1, holes=1)),
    "lost at the end": (lambda topic: topic[:-1], Verdict(lost=1)),
    "doubled": (
        lambda topic: [*topic, replace(topic[0], headers={})],
        Verdict(duplicated=1),
    ),
    "swapped": (_swapped, Verdict(disordered=1)),
    "on another partition": (_moved, Verdict(disordered=1)),
    "under another key": (
        lambda topic: [replace(topic[0], key=topic[1].key), *topic[1:]],
        Verdict(altered=1),
    ),
    "foreign": (
        lambda topic: [*topic, replace(topic[0], value=b"no JSON", headers={})],
        Verdict(foreign=1),
    ),
}


def test_each_flaw_of_a_topic_is_found() -> None:
    """What was lost, doubled, swapped or changed is counted as that, and as no more."""
    found = {
        name: verify(spoil(_topic()), _TRAFFIC) for name, (spoil, _) in _CASES.items()
    }

    assert found == {name: verdict for name, (_, verdict) in _CASES.items()}
