"""
The command that writes the contract's files, or says what is stale or broken.

Owns the files alone: their texts are made elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge import __version__
from bridge.contract import asyncapi, page, released
from bridge.contract.json_schema import build, laid_out
from bridge.contract.published import PUBLISHED


__all__ = ["files", "main"]

_SCHEMAS: Final = Path("schemas")
_DOCS: Final = Path("docs")


def files() -> dict[Path, str]:
    """Give the text of each file, by its path in the repository."""
    document = asyncapi.build_document()
    return {_SCHEMAS / name: text for name, text in _schemas().items()} | {
        _SCHEMAS / asyncapi.FILE_NAME: laid_out(document),
        _DOCS / page.PAGE_NAME: page.build_page(document),
    }


def _schemas() -> dict[str, str]:
    return {published.file_name: build(published) for published in PUBLISHED}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the files, or check that those on disk are what would be written.

    Args:
        arguments: The command line without the program's name; None for the
            process's own.

    Returns:
        The exit code: 1 if something is stale, or if what a release has promised is
        broken.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bridge.contract", description="Write the contract's files."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit 1 if a file is stale or a promise is broken",
    )
    what.add_argument(
        "--release",
        action="store_true",
        help="keep the schemas as those that this version promises",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        help="the repository (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    if options.release:
        return _release(directory / _SCHEMAS / released.FOLDER / __version__)
    wrong = []
    for path, text in files().items():
        if _stands(directory / path, text):
            continue
        if options.check:
            wrong.append(f"{path} is stale: run `make schemas`")
        else:
            _write(directory / path, text)
    wrong += released.broken_promises(
        directory / _SCHEMAS / released.FOLDER, _schemas()
    )
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


def _release(folder: Path) -> int:
    """Keep the schemas of now in a folder that isn't there yet: once, for good."""
    if folder.exists():
        sys.stdout.write(f"{folder} is there already: what is released stays\n")
        return 1
    for name, text in _schemas().items():
        _write(folder / name, text)
    return 0


def _stands(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{path} written\n")


if __name__ == "__main__":
    sys.exit(main())
