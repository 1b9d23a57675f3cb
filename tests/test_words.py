"""The check of language finds what it should, and nothing in plain text."""

from __future__ import annotations

import pytest

from tests.words import findings


@pytest.mark.parametrize(
    ("name", "text", "flaws"),
    [
        ("bridge/x.py", '"""Tells whoever asks."""\n', 2),
        ("bridge/x.py", "# Of a file that stands\n# in the way of\n# another.\n", 2),
        ("bridge/x.py", 'x = f"{y} is no " "topic"\n', 1),
        ("bridge/x.py", "told = anew(2)  # a name isn't a phrase\n", 0),
        ("docs/x.md", f"# Head\n\nIt {'very ' * 25}long.\n", 1),
        ("docs/x.md", "- [nobody](told.md) reads this.\n", 1),
        ("docs/x.md", "| a |\n|---|\n| " + "x" * 201 + " |\n", 1),
        ("docs/x.md", f"```\n{'told ' * 30}\n```\n\nOne. Two: there is no flaw.\n", 0),
    ],
)
def test_a_seeded_text_is_found(name: str, text: str, flaws: int) -> None:
    """Phrases across lines and literals, long sentences and cells; no code."""
    assert len(list(findings(name, text))) == flaws
