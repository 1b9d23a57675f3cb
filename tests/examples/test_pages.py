"""What docs/consume/consuming.md and the index quote is in the programs."""

from __future__ import annotations

import re
from pathlib import Path


_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "examples"


def _flush_left(code: str) -> str:
    return "\n".join(line.strip() for line in code.splitlines())


def test_quoted_code_is_in_an_example() -> None:
    """Each block of the page is in a program word for word, but for its indent."""
    page = (_ROOT / "docs" / "consume" / "consuming.md").read_text("utf-8")
    programs = [_flush_left(file.read_text("utf-8")) for file in _EXAMPLES.glob("*.py")]
    blocks = re.findall(r"```(?:python|sql)\n(.*?)```", page, re.DOTALL)
    assert blocks
    assert [
        block
        for block in blocks
        if not any(_flush_left(block) in each for each in programs)
    ] == []


def test_index_names_each_program() -> None:
    """The index has a row for every program, and no other."""
    index = (_EXAMPLES / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| \[([^\]]+)\]\(\1\) \|", index, re.MULTILINE))
    programs = [
        *_EXAMPLES.glob("*.py"),
        *_EXAMPLES.rglob("*.java"),
        _EXAMPLES / "local",
    ]
    assert named | {"__init__.py"} == {
        str(file.relative_to(_EXAMPLES)) for file in programs
    }
