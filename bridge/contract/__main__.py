"""
The command that writes `schemas/`, or says what is stale there.

Owns the files alone: their texts are made elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.contract.json_schema import build
from bridge.contract.published import PUBLISHED


__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the schemas, or check that those on disk are what would be written.

    Args:
        arguments: The command line without the program's name; None for the
            process's own.

    Returns:
        The exit code: 1 if `--check` found something stale.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bridge.contract", description="Write the JSON Schemas."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one is stale"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("schemas"),
        help="where they stand (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    stale = False
    for published in PUBLISHED:
        path = directory / published.file_name
        text = build(published)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            stale = True
            sys.stdout.write(f"{path} is stale: run `make schemas`\n")
        else:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{path} written\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
