"""What is written of outages, and whose flaws fail `make bench-faults`."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest

from benchmarks.faults import __main__ as command
from benchmarks.faults.course import FaultRun
from benchmarks.faults.outages import OUTAGES
from benchmarks.faults.report import FaultFailure, FaultReport
from benchmarks.faults.verdict import FaultVerdict
from benchmarks.line_up import LINE_UP, signing
from tests.benchmarks.runs import MACHINE


_WELL = FaultVerdict(
    accepted=5000,
    refused=600,
    unsure=4,
    on_topic=4990,
    away=10,
    lost=0,
    told=10,
    duplicated=0,
    disordered=0,
    altered=0,
    foreign=0,
    holes=0,
    whole_seconds=1.25,
)


def _run(contender: str, verdict: FaultVerdict, end: str | None = None) -> FaultRun:
    return FaultRun(contender, "away", 500, 2.5, verdict, end=end)


def _report(*runs: FaultRun, failures: tuple[FaultFailure, ...] = ()) -> FaultReport:
    return FaultReport(
        MACHINE, 500, {"away": "Kafka went"}, runs, ["peer"], failures, {"mute": "why"}
    )


def test_row_of_a_run() -> None:
    """Each count has its column, and an outage its table."""
    text = _report(_run("bridge", _WELL)).markdown()

    assert "## Kafka went" in text
    assert "- left out: mute: why" in text
    row = next(line for line in text.splitlines() if line.startswith("| bridge"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["2.5", "5,000", "4,990", "10", "0", "10", "0", "0", "1.2"]


def test_remarks() -> None:
    """Rare flaws, who ended by itself and who never started are told in words."""
    dead = replace(_WELL, altered=1, whole_seconds=None)
    report = _report(
        _run("peer", dead, end="ended by itself"),
        failures=(FaultFailure("peer", "away", "broke\nat once"),),
    )

    text = report.markdown()

    assert "| never" in text
    assert "- peer: altered 1\n- peer: ended by itself\n- peer: failed: broke" in text
    assert json.loads(report.json())["runs"][0]["verdict"]["altered"] == 1


@pytest.mark.parametrize(
    "flaw", ["away", "lost", "duplicated", "disordered", "altered", "foreign", "holes"]
)
def test_flaw_of_a_bridge_fails(flaw: str) -> None:
    """Whatever is wrong with a bridge counts, with a peer it doesn't."""
    flawed = replace(_WELL, **{flaw: 11})

    assert not _report(_run("bridge", flawed)).flawless
    assert _report(_run("bridge", _WELL), _run("peer", flawed)).flawless


def test_bridge_that_stays_away_fails() -> None:
    """One that ended by itself, or never brought anything again, is no good one."""
    assert not _report(_run("bridge", _WELL, end="ended by itself")).flawless
    assert not _report(_run("bridge", replace(_WELL, whole_seconds=None))).flawless


@pytest.mark.parametrize(
    ("flawed", "code"), [("bridge", 1), ("pysher + confluent-kafka", 0)]
)
def test_exit_code_is_the_bridges(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flawed: str,
    code: int,
) -> None:
    """A bridge that loses in silence makes the command fail, and a peer doesn't."""
    runs = [
        _run(name, replace(_WELL, lost=3) if name == flawed else _WELL)
        for name in ("bridge", "pysher + confluent-kafka")
    ]
    monkeypatch.setattr(command, "_measure", lambda *_: iter(runs))
    monkeypatch.setattr(command, "save", lambda *_: [])
    # The tests' own process is ended as before.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert command.main(["--contenders", "bridge,pysher,benthos"]) == code

    shown = capsys.readouterr()
    assert "# Through outages" in shown.out
    assert "left out: Benthos + franz-go: it can't sign" in shown.err
    assert "13 missing, 10 of them told" in shown.err


def test_who_cannot_sign_is_left_out() -> None:
    """Only who can subscribe at a real soketi runs there, and the others are named."""
    able, unable = signing(list(LINE_UP.values()))

    names = {entry.contender.name for entry in able}
    assert {"bridge", "pysher + confluent-kafka"} < names
    assert set(unable) == {"Benthos + franz-go", "trio-websocket alone"}
    # It differs from pysher with previews alone, and none are published.
    assert LINE_UP["pysher-unchecked"] not in able


def test_outages_are_chosen_by_name() -> None:
    """A known name chooses, an unknown one is an error that tells the known."""
    assert command._outages("kafka-killed") == [OUTAGES[3]]
    with pytest.raises(Exception, match=r"'storm'.*kafka-frozen"):
        command._outages("storm")
