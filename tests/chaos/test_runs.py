"""The commands themselves, for a short time: they run to their end and find nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.__main__ import main


@pytest.mark.connected
@pytest.mark.timeout(500)
# `healing` silences the sandbox's log in this process.
@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize(
    ("command", "least"),
    [
        ("kills --kills 6", {"events emitted": 2_000, "events committed": 1_000}),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                (
                    "kills --kills 6 --delivery transactional",
                    {"events emitted": 2_000, "events committed": 1_000},
                ),
                (
                    "soak --for 60s",
                    {"events emitted": 2_000, "events on the topic": 1_000},
                ),
                ("restarts --times 3", {"events emitted": 500, "connects": 4}),
                ("healing --for 60s", {}),
            )
        ),
    ],
    ids=["kills", "kills-transactional", "soak", "restarts", "healing"],
)
# Of the sandbox's webhooks that are cancelled while they are sent, httpx leaves the
# body's generator to the collector.
@pytest.mark.filterwarnings(
    "ignore:Async generator 'httpx._content.ByteStream.__aiter__':ResourceWarning"
)
def test_a_short_run_finds_nothing(
    command: str,
    least: dict[str, int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The verdict is good, and the report has the figures of a real load."""
    monkeypatch.chdir(tmp_path)
    name, *options = command.split()
    code = main([name, *options, "--seed", "1"])
    output = capsys.readouterr().out
    assert code == 0, output
    assert output.splitlines()[-1].startswith("good: every ")
    report = json.loads((tmp_path / "build" / "chaos" / f"{name}-1.json").read_text())
    assert report["findings"] == []
    assert report["faults"]
    for figure, number in least.items():
        assert report["figures"][figure] >= number
    if name == "healing":
        assert sum(report["figures"]["jobs upstream"].values()) > 50
        assert sum(report["figures"]["of those in a gap"].values()) > 0
