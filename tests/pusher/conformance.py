"""Checks docs/conformance.md: each of its rows has tests, against the servers it names.

python -m tests.pusher.conformance    reports what is wrong, and exits with 1
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


_TESTS = Path(__file__).resolve().parents[1]
_PAGE = _TESTS.parent / "docs" / "conformance.md"
_ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)
_NAME = re.compile(r"test_rows?_((?:\d\d_)+)")

# Where a test's server is seen from: a fixture, or what plays one.
_SERVERS = {
    "soketi": {"soketi", "own_soketi", "odd_soketi", "minutes"},
    "scripted": {
        *("staged", "refusal", "spoken", "upgrade", "ScriptedServer", "_flooded"),
        *("fuzz", "MockTransport", "serve_tcp", "memory_stream_pair"),
    },
}


def main() -> int:
    """Compare the page's last column with the tests."""
    shown: dict[int, set[str]] = {}
    for path in sorted(_TESTS.rglob("test_*.py")):
        code = path.read_text(encoding="utf-8")
        if "def test_row" in code:
            for row, servers in _shown(ast.parse(code)):
                shown.setdefault(row, set()).update(servers)
    listed = {
        int(row): set(servers.split(", "))
        for row, servers in _ROW.findall(_PAGE.read_text(encoding="utf-8"))
    }
    wrong = [
        f"docs/conformance.md: row {row} is shown against"
        f" {', '.join(sorted(shown.get(row, ()))) or 'nothing'}"
        for row in sorted(listed.keys() | shown)
        if listed.get(row) != shown.get(row)
    ]
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return int(bool(wrong) or len(listed) < 42)


def _shown(module: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """Give the rows of each test of a module, and the servers that it uses."""
    functions = {
        node.name: node
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for name in functions:
        if found := _NAME.match(name):
            used = _names_used(name, functions)
            servers = [one for one, names in _SERVERS.items() if used & names]
            for row in found[1].split("_")[:-1]:
                # A test against soketi may have a local variable of such a name.
                yield int(row), set(servers[:1])


def _names_used(name: str, functions: Mapping[str, ast.stmt]) -> set[str]:
    """Find the names that a function uses, and those of what it uses in its file."""
    names, waiting = {name}, [name]
    while waiting:
        node = functions.get(waiting.pop())
        for each in ast.walk(node) if node else ():
            used = getattr(each, "id", None) or getattr(each, "arg", None)
            used = used or getattr(each, "attr", None)
            if isinstance(used, str) and used not in names:
                names.add(used)
                waiting.append(used)
    return names


if __name__ == "__main__":
    sys.exit(main())
