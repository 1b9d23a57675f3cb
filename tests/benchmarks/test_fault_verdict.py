"""What the judge of outages promises: each way to be wrong is seen, and only those."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace

import pytest

from benchmarks.faults.verdict import Evidence, FaultVerdict, judge
from benchmarks.soketi import Attempt
from benchmarks.traffic import Traffic
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


# An event each tenth of a second, of four jobs; an outage from 1.0 to 2.0.
_TRAFFIC = Traffic(events=40, jobs=4)
_ENDED = 2.0


@dataclass
class _History:
    """What comes before the judge; all is well unless a test breaks it."""

    attempts: list[Attempt] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    seen: dict[tuple[int, int], float] = field(default_factory=dict)
    deaf: list[float] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def __post_init__(self) -> None:
        for event in range(_TRAFFIC.events):
            moment = event / 10
            self.attempts.append(Attempt(event, moment, moment + 0.001, taken=True))
            self.write(event, moment + 0.002)

    def write(self, event: int, moment: float) -> None:
        """Put an event on the topic, behind all others."""
        key = _TRAFFIC.request_id(event).encode()
        value = _TRAFFIC.payload(event).encode()
        offset = len(self.records)
        self.records.append(Record(0, offset, key, value, {}, 0))
        self.seen[0, offset] = moment

    def lose(self, *events: int) -> None:
        """Take events off the topic."""
        for event in events:
            value = _TRAFFIC.payload(event).encode()
            self.records = [each for each in self.records if each.value != value]

    def say(self, event: int, *, taken: bool | None) -> None:
        """Let soketi have answered otherwise."""
        self.attempts[event] = self.attempts[event]._replace(taken=taken)

    def judge(self) -> FaultVerdict:
        return judge(
            Evidence(
                traffic=_TRAFFIC,
                attempts=self.attempts,
                ended=_ENDED,
                deaf=self.deaf,
                records=self.records,
                seen=self.seen,
                gaps=self.gaps,
            )
        )


@pytest.fixture
def history() -> _History:
    """A history in which all is well."""
    return _History()


def _gap(since: float, until: float | None) -> Gap:
    return Gap("a-gap", "disconnected", "me", since, until)


def test_all_is_well(history: _History) -> None:
    """All events once, in order and at once are no complaint."""
    verdict = history.judge()

    assert verdict.flawless
    assert (verdict.accepted, verdict.on_topic) == (40, 40)
    assert verdict.whole_seconds == 0


def test_lost_in_silence(history: _History) -> None:
    """What soketi took and nobody brought or told of is lost in silence."""
    history.lose(12, 13)

    verdict = history.judge()

    assert (verdict.lost, verdict.away, verdict.told) == (2, 0, 0)
    assert verdict.silent == 2
    assert not verdict.flawless


def test_not_received_while_away(history: _History) -> None:
    """What is missing from when nobody was subscribed is counted apart, and no less."""
    history.lose(5, *range(11, 15))
    history.deaf = [1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4]

    verdict = history.judge()

    assert (verdict.away, verdict.lost) == (4, 1)
    assert verdict.silent == 5


def test_lost_but_in_a_gap(history: _History) -> None:
    """What a gap covers was told, and is no flaw."""
    history.lose(*range(11, 15))
    history.deaf = [1.1, 1.2, 1.3, 1.4]
    history.gaps = [_gap(1.05, 1.5)]

    verdict = history.judge()

    assert (verdict.away, verdict.told, verdict.silent) == (4, 4, 0)
    assert verdict.flawless


def test_gap_that_misses_an_event(history: _History) -> None:
    """An event before a gap's bounds isn't told by it."""
    history.lose(*range(11, 15))
    history.gaps = [_gap(1.2, 1.5)]

    assert history.judge().silent == 1


def test_gap_that_never_ended(history: _History) -> None:
    """An open gap tells of nothing."""
    history.lose(12)
    history.gaps = [_gap(1.0, None)]

    assert history.judge().told == 0


def test_gap_over_what_arrived(history: _History) -> None:
    """A gap that is wider than the loss tells of what is missing alone."""
    history.lose(12)
    history.gaps = [_gap(0.5, 2.5)]

    verdict = history.judge()

    assert verdict.told == 1
    assert verdict.flawless


def test_doubled(history: _History) -> None:
    """A second copy is seen, and is no arrival of its own."""
    history.write(39, 4.0)

    verdict = history.judge()

    assert verdict.duplicated == 1
    assert verdict.on_topic == 40
    assert not verdict.flawless


def test_disordered(history: _History) -> None:
    """A job's event behind its later one is seen."""
    history.lose(12)
    history.write(12, 4.0)

    verdict = history.judge()

    assert verdict.disordered == 1
    assert not verdict.flawless


def test_hole_in_the_sequence(history: _History) -> None:
    """A number that a bridge's records skip is seen."""
    history.records = [
        replace(record, headers={"bridge_sequence": b"%d" % number})
        for number, record in enumerate(history.records, 1)
        if number != 7
    ]

    assert history.judge().holes == 1


def test_altered_and_foreign(history: _History) -> None:
    """Other bytes than were sent and records of nobody are seen."""
    value = history.records[3].value or b""
    history.records[3] = dataclasses.replace(
        history.records[3], value=value.replace(b"null", b"true")
    )
    history.records.append(Record(0, 40, b"x", b"{}", {}, 0))

    verdict = history.judge()

    assert (verdict.altered, verdict.foreign) == (1, 1)
    assert not verdict.flawless


def test_refused_is_nobodys_loss(history: _History) -> None:
    """What soketi didn't take is the publisher's failure."""
    for event in range(11, 15):
        history.say(event, taken=False)
        history.lose(event)

    verdict = history.judge()

    assert (verdict.accepted, verdict.refused, verdict.silent) == (36, 4, 0)
    assert verdict.flawless


def test_refused_and_on_the_topic(history: _History) -> None:
    """A refused event can't be there."""
    history.say(11, taken=False)

    assert history.judge().foreign == 1


@pytest.mark.parametrize("arrives", [True, False])
def test_unsure_may_be_there_or_not(history: _History, *, arrives: bool) -> None:
    """What soketi may have taken is right either way."""
    history.say(11, taken=None)
    if not arrives:
        history.lose(11)

    verdict = history.judge()

    assert verdict.unsure == 1
    assert verdict.flawless


def test_whole_when_what_waited_is_there(history: _History) -> None:
    """The backlog's last event ends an outage of Kafka, however long that takes."""
    for event in range(10, 23):
        history.seen[0, event] = 3.4 + event / 100

    assert history.judge().whole_seconds == pytest.approx(3.62 - _ENDED)

    history.seen[0, 39] = 5.0

    assert history.judge().whole_seconds == pytest.approx(5.0 - _ENDED)


def test_what_comes_at_the_very_end_is_no_recovery(history: _History) -> None:
    """Events that were written only when the contender was ended came to nobody."""
    for event in range(10, 40):
        del history.seen[0, event]

    verdict = history.judge()

    assert verdict.on_topic == 40
    assert verdict.whole_seconds is None


def test_whole_when_nothing_is_missing_any_more(history: _History) -> None:
    """Who was away is whole after the last event that it missed."""
    history.lose(*range(11, 31))

    assert history.judge().whole_seconds == pytest.approx(3.001 - _ENDED)


def test_never_whole_again(history: _History) -> None:
    """Who brings nothing to the end never came back, told or not."""
    history.lose(*range(11, 40))
    history.gaps = [_gap(1.0, 9.0)]

    verdict = history.judge()

    assert verdict.whole_seconds is None
    assert verdict.silent == 0
    assert not verdict.flawless
