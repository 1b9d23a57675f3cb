"""Tests of the page of metrics."""

from __future__ import annotations

from pathlib import Path

from tests.operations import page


def test_the_page_is_what_the_metrics_say() -> None:
    """Each metric has its row, with its type, its labels and its help text."""
    assert page.main(["--check"]) == 0, "run make docs"


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    """A page that isn't there, or says something else, fails until it is written."""
    file = tmp_path / "metrics.md"
    assert page.main(["--check", "--file", str(file)]) == 1
    assert page.main(["--file", str(file)]) == 0
    assert page.main(["--check", "--file", str(file)]) == 0
    file.write_text(file.read_text().replace("bridge_subscribed", "bridge_heard"))
    assert page.main(["--check", "--file", str(file)]) == 1
