"""`make healing` itself, for a minute: it runs to its end and finds nothing."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from tests.chaos.__main__ import main
from tests.chaos.healing_stage import draw_members


@pytest.mark.long
@pytest.mark.connected
@pytest.mark.timeout(500)
def test_a_minute_of_gaps_finds_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each job that could be known has its one end; the report has the figures."""
    monkeypatch.chdir(tmp_path)
    code = main(["healing", "--for", "60s", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.endswith("in time and in order\n")
    report = json.loads((tmp_path / "build" / "chaos" / "healing-1.json").read_text())
    verdict = report["verdict"]
    assert sum(verdict["jobs"].values()) > 50
    assert sum(verdict["healed"].values()) > 0
    assert report["faults"]


def test_a_seed_draws_the_same_accounts_again() -> None:
    """Most runs have an account with webhooks, some have none, and plans vary."""
    drawn = [draw_members(Random(seed), 1) for seed in range(50)]
    assert drawn == [draw_members(Random(seed), 1) for seed in range(50)]
    hooked = [sum(each.webhook_url is not None for each in pair) for pair in drawn]
    assert set(hooked) == {0, 1}
    assert {each.plan for pair in drawn for each in pair} == {"basic", "premium"}
