"""Files that are made from the code: written, or with `--check` only compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


__all__ = ["table", "write_or_check"]


def write_or_check(files: Mapping[Path, str], command: str) -> int:
    """
    Write what differs on disk, or with `--check` on the command line report it.

    Args:
        files: The text of each file.
        command: What writes them.

    Returns:
        The exit code: 1 if `--check` found a stale file.
    """
    is_check = "--check" in sys.argv[1:]
    stale = [
        path
        for path, text in files.items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    for path in stale:
        if is_check:
            sys.stdout.write(f"{path} is stale: run `{command}`\n")
        else:
            path.write_text(files[path], "utf-8", newline="\n")
            sys.stdout.write(f"{path} written\n")
    return int(is_check and bool(stale))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    cells = [head, ("---",) * len(head), *rows]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in cells]
    return "".join(f"| {line} |\n" for line in lines)
