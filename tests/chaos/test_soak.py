"""`make soak` itself, for a minute: it runs to its end and finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import main


@pytest.mark.long
@pytest.mark.connected
@pytest.mark.timeout(400)
def test_a_minute_of_faults_finds_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each event is on the topic or in a gap; the report has the figures."""
    monkeypatch.chdir(tmp_path)
    code = main(["soak", "--for", "60s", "--seed", "1"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.endswith("or in a gap, and no gap is false\n")
    report = json.loads((tmp_path / "build" / "chaos" / "soak-1.json").read_text())
    verdict = report["verdict"]
    assert verdict["emitted"] == verdict["on_topic"] + verdict["covered"] > 1000
    assert report["missed_by_witness"] == 0
    assert report["faults"]


@pytest.mark.parametrize("text", ["soon", "1d", "-5s", "h", "1.5h"])
def test_a_time_that_is_none_is_told(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong time is refused with what it may look like."""
    with pytest.raises(SystemExit) as ended:
        main(["soak", f"--for={text}"])
    assert ended.value.code == 2
    assert "such as 90s, 10m or 1h" in capsys.readouterr().err
