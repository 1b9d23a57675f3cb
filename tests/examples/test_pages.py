"""What docs/consuming.md and the index quote is in the programs."""

from __future__ import annotations

import re
from pathlib import Path


_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "examples"


def _flush_left(code: str) -> str:
    return "\n".join(line.strip() for line in code.splitlines())


def test_quoted_code_is_in_an_example() -> None:
    """Each block of the page stands in a program word for word, but for its indent."""
    page = (_ROOT / "docs" / "consuming.md").read_text("utf-8")
    programs = [_flush_left(file.read_text("utf-8")) for file in _EXAMPLES.glob("*.py")]
    blocks = re.findall(r"```(?:python|sql)\n(.*?)```", page, re.DOTALL)
    assert blocks
    strangers = [
        block
        for block in blocks
        if not any(_flush_left(block) in each for each in programs)
    ]
    assert strangers == []


def test_index_names_each_program() -> None:
    """The index has a row for every program, and no other."""
    index = (_EXAMPLES / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| \[([^\]]+)\]\(\1\) \|", index, re.MULTILINE))
    programs = [*_EXAMPLES.rglob("*.py"), *_EXAMPLES.rglob("*.java")]
    assert named == {str(file.relative_to(_EXAMPLES)) for file in programs}


def test_links_of_the_index_lead_somewhere() -> None:
    """Each relative link names a file that is there."""
    index = (_EXAMPLES / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", index)
    assert [link for link in links if not (_EXAMPLES / link).is_file()] == []
