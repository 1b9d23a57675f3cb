"""A run's figures in words, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.chaos.fault_log import Fault
from tests.chaos.healing import HealingOutcome
from tests.chaos.healing_report import lines, write
from tests.chaos.histories import all_is_well
from tests.chaos.upstream import Member


def _outcome() -> HealingOutcome:
    history = all_is_well()
    return HealingOutcome(
        history.judge(),
        history.gaps,
        [Fault("soketi killed", 99.8, 109.0)],
        [Member("bare", "t"), Member("hooked", "t", webhook_url="http://h")],
        Counter(after_terminal=1),
        "clean",
        "log",
    )


def test_the_figures_are_told() -> None:
    """Jobs, ways, times, gaps, what is unknown and what is lost."""
    said = "\n".join(lines(_outcome()))
    for expected in (
        "5  (3 done, 2 error)",
        "4  (2 status-endpoint, 1 socket, 1 webhook)",
        "2.1 s (median), 7.2 s (p99), 7.2 s (longest)",
        "allowed 16% was used at most",
        "1  (over before any was heard of)",
        "2  (2 disconnected)",
        "(2 status-endpoint, 1 webhook, 0 unknown)",
        "1  (1 after_terminal)",
        "1  (1 soketi killed)",
    ):
        assert expected in said


def test_the_report_is_json_and_has_the_log_beside_it(tmp_path: Path) -> None:
    """Whoever compares runs needs every figure and every gap."""
    report = write(_outcome(), 7, tmp_path / "build")
    content = json.loads(report.read_text())
    assert content["verdict"]["ways"]["webhook"] == 1
    assert content["gaps"]["bare"][0]["healed"] == [2, 0]
    assert [each["webhooks"] for each in content["accounts"]] == [False, True]
    assert report.with_suffix(".log").read_text() == "log"
