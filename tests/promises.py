"""Checks that every promise still has its test: `python -m tests.promises`.

Reads `promises.md` beside it, and the tests that README and docs cite. `make lint`
runs it, so that no promise loses its last test unnoticed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path


_TESTS = Path(__file__).parent
_ROOT = _TESTS.parent

_ROW = re.compile(r"^\| (?P<promise>.+?) \| `(?P<test>[^`]+)` \|$")
_CITED = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")

# Without them a page that can't be parsed would pass.
_FEWEST_PROMISES = 100


def main() -> int:
    """Report missing tests on standard error."""
    rows = list(_promised())
    problems = [f"{place}: no test {test}" for place, test in rows if not _exists(test)]
    if len(rows) < _FEWEST_PROMISES:
        problems.append(f"tests/promises.md: only {len(rows)} rows could be read")
    problems += [
        f"{place}: no test {test}" for place, test in _cited() if not _exists(test)
    ]
    for line in problems:
        sys.stderr.write(f"{line}\n")
    return int(bool(problems))


def _promised() -> Iterator[tuple[str, str]]:
    for number, line in enumerate((_TESTS / "promises.md").read_text().splitlines(), 1):
        if found := _ROW.match(line):
            yield f"tests/promises.md:{number}", f"tests/{found['test']}"


def _cited() -> Iterator[tuple[str, str]]:
    for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for found in _CITED.finditer(line):
                yield f"{page.relative_to(_ROOT)}:{number}", found[0]


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    path = _ROOT / file
    return path.is_file() and (not name or name in _functions(path))


@cache
def _functions(path: Path) -> set[str]:
    """Name the functions of a module, and Hypothesis' machines given to pytest."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return found


if __name__ == "__main__":
    sys.exit(main())
