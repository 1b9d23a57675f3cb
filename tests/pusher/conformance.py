"""
The page that shows which test shows which row of the checklist.

The rows' words are `checklist`'s, all the rest is read from the tests' code, without
running it: which rows a test shows, against which server, and its first sentence.

    python -m tests.pusher.conformance            writes docs/conformance.md
    python -m tests.pusher.conformance --check    reports a stale page, exits 1

Both report rows without the tests that they need, and exit with 1.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.pusher.checklist import ROWS


__all__ = ["build", "flaws", "main", "proofs"]

_TESTS: Final = Path(__file__).resolve().parents[1]

_NAME: Final = re.compile(r"test_rows?_((?:\d\d_)+)")

# Where a test's server is seen from: a fixture, or what plays one.
_SOKETI: Final = {"soketi", "own_soketi", "odd_soketi"}
_SCRIPTED: Final = {
    *("staged", "refusal", "spoken", "upgrade", "ScriptedServer"),
    *("fuzz", "MockTransport", "serve_tcp", "open_tcp_listeners"),
}

# What soketi, or a client of it, can't be brought to do: it has no such codes or
# shapes, or another server's or the auth endpoint's behaviour is meant.
_NEVER_SOKETI: Final = {3, 4, 5, 6, 18, 19, 20, 21, 28, 29, 31, 34, 39}

_HEAD: Final = """\
# Conformance with the Pusher protocol

<!-- Written by `make docs` from tests/pusher: change it there, not here. -->

What a client of Pusher Channels (protocol 7) has to stand, what the bridge does about
it, and the tests that show it. A test's name has the number of its row. *soketi* is a
real soketi 1.6.1, the server that dryAPI runs; *scripted* is a server that a test
plays, for what soketi never does; *no server* is a decision that needs no connection.
`make test-all` runs them.
"""


@dataclass(frozen=True)
class Proof:
    """
    A test that shows rows.

    Attributes:
        rows: Their numbers.
        path: Its file, from the project's folder.
        name: Its function.
        sentence: The first line of its docstring.
        server: `soketi`, `scripted` or `none`.
    """

    rows: tuple[int, ...]
    path: str
    name: str
    sentence: str
    server: str


@cache
def proofs(folder: Path = _TESTS) -> tuple[Proof, ...]:
    """Read the tests that show rows, sorted by file and place; once."""
    found: list[Proof] = []
    for path in sorted(folder.rglob("test_*.py")):
        code = path.read_text(encoding="utf-8")
        if "def test_row" in code:
            where = path.relative_to(folder.parent).as_posix()
            found += _proofs_of(ast.parse(code), where)
    return tuple(found)


def _proofs_of(module: ast.Module, where: str) -> Iterator[Proof]:
    definitions = {
        node.name: node
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for name, node in definitions.items():
        shown = _NAME.match(name)
        if shown is None:
            continue
        names = _names_used(name, definitions)
        yield Proof(
            rows=tuple(int(row) for row in shown[1].split("_") if row),
            path=where,
            name=name,
            sentence=(ast.get_docstring(node) or "").partition("\n")[0],
            server="soketi"
            if names & _SOKETI
            else "scripted"
            if names & _SCRIPTED
            else "none",
        )


def _names_used(name: str, definitions: Mapping[str, ast.stmt]) -> set[str]:
    """Find the names that a function uses, and those of what it uses in its file."""
    names: set[str] = set()
    waiting = [name]
    while waiting:
        definition = definitions.get(waiting.pop())
        if definition is None:
            continue
        for node in ast.walk(definition):
            used = {ast.Name: "id", ast.arg: "arg", ast.Attribute: "attr"}.get(
                type(node)
            ) or ""
            each = getattr(node, used, None)
            if isinstance(each, str) and each not in names:
                names.add(each)
                waiting.append(each)
    return names


def flaws(found: Sequence[Proof]) -> list[str]:
    """Name rows without a test, without a connection, or without soketi."""
    servers: dict[int, set[str]] = {row: set() for row in ROWS}
    wrong = []
    for proof in found:
        for row in proof.rows:
            servers.setdefault(row, set()).add(proof.server)
        if not re.fullmatch(r"\S.*[.\w]", proof.sentence):
            wrong.append(f"{proof.path}::{proof.name} has no docstring")
    for row, kinds in sorted(servers.items()):
        if row not in ROWS:
            wrong.append(f"row {row} is none of the checklist")
        elif not kinds:
            wrong.append(f"row {row} has no test")
        elif kinds == {"none"}:
            wrong.append(f"row {row} is never shown over a connection")
        elif ("soketi" in kinds) == (row in _NEVER_SOKETI):
            can = "can't" if row in _NEVER_SOKETI else "can"
            wrong.append(f"row {row}: soketi {can} show it, by _NEVER_SOKETI")
    return wrong


def build(found: Sequence[Proof]) -> str:
    """Make the page's text of the tests, with a newline at its end."""
    lines = [_HEAD, "| row | what happens | what follows | shown against |\n"]
    lines.append("|---|---|---|---|\n")
    for number, row in ROWS.items():
        servers = {proof.server for proof in found if number in proof.rows}
        order = [each for each in ("soketi", "scripted") if each in servers]
        cells = (
            f"[{number}](conformance.md#row-{number})",
            row.stimulus,
            row.behaviour,
            ", ".join(order),
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    for number, row in ROWS.items():
        lines.append(f"\n## Row {number}\n\n{row.stimulus}.\n\n")
        lines += [_item(proof) for proof in found if number in proof.rows]
    return "".join([lines[0], "\n", *lines[1:]])


def _item(proof: Proof) -> str:
    return f"- `{proof.path}::{proof.name}` ({proof.server}): {proof.sentence}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check the one on disk; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pusher.conformance",
        description="Write the page of conformance.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is stale"
    )
    parser.add_argument(
        "--file",
        type=Path,
        default=_TESTS.parent / "docs" / "conformance.md",
        help="where it stands (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    path: Path = options.file
    wrong = flaws(proofs())
    sys.stdout.writelines(f"{flaw}\n" for flaw in wrong)
    if wrong:
        return 1
    text = build(proofs())
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        sys.stdout.write(f"{path} is stale: run `make docs`\n")
        return 1
    path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{path} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
