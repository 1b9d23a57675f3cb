"""Checks the language of docs, help, errors, logs, docstrings and comments.

    python -m tests.words    reports what to change, and exits with 1

Everywhere: no phrase of `words.txt`, and US spelling (codespell's dictionary). In docs:
no sentence above 25 words, and no cell of a table above 200 characters.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path


_ROOT = Path(__file__).parents[1]

# Not written here, or what this check reads.
_FOREIGN = (
    *("LICENSE", "*.lock", "requirements/*", "schemas/*", "*/page/*", "*.svg"),
    *("tests/words.*", "tests/test_words.py"),
)

_TEXTS = {".md", ".py", ".toml", ".yaml", ".tpl", ".txt"}
_MOST_WORDS = 25
_LONGEST_CELL = 200

# Words with another spelling that are names in trio and Kafka, or of a test's function.
_NAMES = "acknowledgement,acknowledgements,cancelled,cancelling,enrol"


def _phrases() -> Iterator[tuple[re.Pattern[str], str]]:
    for line in (_ROOT / "tests" / "words.txt").read_text("utf-8").splitlines():
        phrase, arrow, instead = line.partition(" => ")
        if arrow and not line.startswith("#"):
            yield re.compile(rf"\b(?:{phrase.strip()})(?!\w)", re.IGNORECASE), instead


_PHRASES = list(_phrases())


def findings(name: str, text: str) -> Iterator[str]:
    """Report what a file's text has to change; the name says what kind it is."""
    blocks = list(_blocks_of_code(text) if name.endswith(".py") else _paragraphs(text))
    for line, block in blocks:
        for phrase, instead in _PHRASES:
            for found in phrase.finditer(block):
                yield f'{name}:{line}: "{found[0]}": write {instead}'
    if name.startswith("docs/") or name in {"README.md", "CONTRIBUTING.md"}:
        for line, block in blocks:
            yield from (f"{name}:{line}: {flaw}" for flaw in _too_long(block))


def _too_long(block: str) -> Iterator[str]:
    if block.startswith("|"):
        for cell in re.split(r"(?<!\\)\|", block):
            if len(cell.strip()) > _LONGEST_CELL:
                yield f"a cell of {len(cell.strip())} characters: {cell[:40]}"
        return
    for sentence in re.split(r"(?<=[.!?:])\s+(?=\S)", block):
        words = re.findall(r"`[^`]*`|[\w'-][\w'.,/-]*", sentence)
        if len(words) > _MOST_WORDS:
            yield f"a sentence of {len(words)} words: {sentence[:60]}"


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Return paragraphs, rows and items, each with its line, links without address."""
    text = re.sub(r"^( *)```.*?^\1```$", _blank, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|^(    |\t)\S.*$", _blank, text, flags=re.MULTILINE)
    block: list[str] = []
    began = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_new = not line.strip() or re.match(r" *([-*|#>]|\d+\.)", line)
        if is_new and block:
            yield began, re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", " ".join(block))
            block = []
        if line.strip():
            began = began if block else number
            block.append(line.strip())


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _blocks_of_code(text: str) -> Iterator[tuple[int, str]]:
    """Return comments and strings with their line, those in sequence as one."""
    kinds = {tokenize.COMMENT, tokenize.STRING}
    # Python 3.12 makes several tokens of an f-string.
    kinds |= {n for n, name in tokenize.tok_name.items() if name == "FSTRING_MIDDLE"}
    blanks = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT}
    block, began, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            body = re.sub(r'^#+:? ?|^[rbfRBF]*["\']+|["\']+$', "", token.string)
            if token.type == last:
                glue = " " if token.type == tokenize.COMMENT else ""
                block += glue + body
                continue
            if block:
                yield began, " ".join(block.split())
            block, began = body, token.start[0]
        if token.type not in blanks:
            last = token.type
    yield began, " ".join(block.split())


def _files() -> Iterator[str]:
    command = ["git", "ls-files"]
    listed = subprocess.run(
        command, cwd=_ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        is_text = Path(name).suffix in _TEXTS or name in {"Makefile", "Dockerfile"}
        if is_text and not any(fnmatch(name, one) for one in _FOREIGN):
            yield name


def main() -> int:
    """Check all files; return the exit code."""
    names = [name for name in _files() if (_ROOT / name).is_file()]
    found = [
        line for name in names for line in findings(name, (_ROOT / name).read_text())
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    spelling = ["codespell", "--builtin", "clear,rare,en-GB_to_en-US", "-L", _NAMES]
    program = Path(sys.executable).parent / spelling[0]
    ended = subprocess.run([program, *spelling[1:], *names], cwd=_ROOT, check=False)
    return int(bool(found) or ended.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
