"""What `line_up` promises: who runs, in which order, and floods that end soon."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.__main__ import _outcome
from benchmarks.contenders import Contender, Stage
from benchmarks.course import Course, Run, RunError
from benchmarks.line_up import LINE_UP, PEERS, Entry, Plan, chosen, standing
from benchmarks.report import Failure
from benchmarks.traffic import Traffic
from tests.kit.process import ChildProcess


class _Somebody:
    """A contender that nobody starts."""

    publishes = True

    def __init__(self, name: str, obstacle: str | None = None) -> None:
        self.name = name
        self._obstacle = obstacle

    def process(self, stage: Stage) -> ChildProcess:
        raise NotImplementedError

    def obstacle(self) -> str | None:
        return self._obstacle

    def versions(self) -> dict[str, str]:
        return {}


class _BrokenCourse(Course):
    """One on which no run comes to its end."""

    def __init__(self) -> None: ...

    def run(self, contender: Contender, *_: object) -> Run:
        raise RunError(f"{contender.name} broke")


def _plan(*, turns: int = 1, previews: tuple[int, ...] = (0,)) -> Plan:
    return Plan(
        turns=turns,
        previews=previews,
        rates=(1000,),
        rate_seconds=2,
        flood_seconds=2.0,
    )


def test_unknown_contender_is_named_with_the_known() -> None:
    """A wrong name is an error that tells the right ones."""
    with pytest.raises(ValueError, match=r"'bridges'.*bridge, bridge-memory"):
        chosen("pysher,bridges")


def test_names_choose() -> None:
    """Names choose in their order, `all` everyone, nothing the usual."""
    assert chosen("pysher,bridge,pysher") == [LINE_UP["pysher"], LINE_UP["bridge"]]
    assert chosen("all") == list(LINE_UP.values())
    usual = chosen(None)
    assert LINE_UP["benthos"] in usual
    assert LINE_UP["bridge-memory"] not in usual


def test_peers_are_all_but_ours() -> None:
    """Whose flaws don't count are the contenders that are neither bridge nor floor."""
    ours = {"trio-websocket", "bridge", "bridge-memory", "bridge-transactional"}
    names = {entry.contender.name for key, entry in LINE_UP.items() if key not in ours}
    assert set(PEERS) == names


def test_who_lacks_something_is_left_out() -> None:
    """An obstacle keeps one out, with its reason, and the others run."""
    able = Entry(_Somebody("able"), 1, 1)
    unable = Entry(_Somebody("unable", "no toolchain"), 1, 1)

    assert standing([unable, able]) == ([able], {"unable": "no toolchain"})


def test_turns_begin_with_another_each() -> None:
    """In each kind everyone runs once a turn, and the first place goes round."""
    entries = [Entry(_Somebody(name), 20, 1) for name in "abc"]

    runs = [
        (contender.name, rate) for contender, _, rate in _plan(turns=2).runs(entries)
    ]

    floods = [name for name, rate in runs if rate is None]
    rates = [name for name, rate in runs if rate == 1000]
    assert floods == rates == list("abcbca")


def test_floods_are_as_long_as_their_contender_is_fast() -> None:
    """A flood takes each about the same time, and its previews have a bound."""
    fast, slow = Entry(_Somebody("fast"), 25, 1), Entry(_Somebody("slow"), 400, 1000)

    traffics = [
        (contender.name, traffic.preview_bytes, traffic.events)
        for contender, traffic, rate in _plan(previews=(0, 90_000)).runs([fast, slow])
        if rate is None
    ]

    assert traffics == [
        ("fast", 0, 80_000),
        ("slow", 0, 5_000),
        ("fast", 90_000, 1_666),
        ("slow", 90_000, 100),
    ]


def test_chosen_length_is_everybodys() -> None:
    """A number of events that was asked for holds for the slow as for the fast."""
    entries = [Entry(_Somebody("fast"), 25, 1), Entry(_Somebody("slow"), 400, 1000)]
    plan = replace(_plan(), events=70_000)

    events = [traffic.events for _, traffic, rate in plan.runs(entries) if rate is None]

    assert events == [70_000, 70_000]


def test_rate_above_ones_pace_is_left_out() -> None:
    """Who takes 2 ms for an event isn't asked for 1,000 a second."""
    slow = Entry(_Somebody("slow"), 2000, 1)

    assert [rate for _, _, rate in _plan().runs([slow])] == [None]


def test_real_soketi_is_for_those_who_sign() -> None:
    """Each of them runs once, at the rate if it keeps it; nobody where none is due."""
    entries = [
        Entry(_Somebody("mute"), 20, 1, signs=False),
        Entry(_Somebody("slow"), 2000, 1),
        Entry(_Somebody("fast"), 20, 1),
    ]
    plan = replace(_plan(turns=5), soketi=True)

    runs = [(each.name, rate) for each, _, rate in plan.soketi_runs(entries)]

    assert runs == [("slow", None), ("fast", None), ("fast", 1000)]
    assert not list(_plan().soketi_runs(entries))


def test_failure_of_a_peer_is_a_finding() -> None:
    """A peer's run that breaks is told; a bridge's ends the benchmark."""
    (peer, *_), course, traffic = PEERS, _BrokenCourse(), Traffic(1)

    outcome = _outcome(course, _Somebody(peer), traffic, 5.0)

    assert outcome == Failure(peer, traffic, 5.0, f"{peer} broke")
    with pytest.raises(RunError):
        _outcome(course, _Somebody("bridge"), traffic, None)
