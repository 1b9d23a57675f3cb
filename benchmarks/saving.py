"""Where reports are kept, two files each, named by the moment; and how that is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from benchmarks.contenders import ROOT
from benchmarks.telling import say


__all__ = ["keep", "renewed", "save"]

_RESULTS = ROOT / "benchmarks" / "results"


class _Report(Protocol):
    """What is saved."""

    def json(self) -> str:
        """Write it for programs."""

    def markdown(self) -> str:
        """Write it for people."""


def save(report: _Report, kind: str = "") -> list[Path]:
    """
    Write a report's files.

    Args:
        report: It.
        kind: What their names end in, for reports other than `make bench`'s.

    Returns:
        The files, from the repository's root.
    """
    _RESULTS.mkdir(exist_ok=True)
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    files = []
    for suffix, text in ((".json", report.json()), (".md", report.markdown())):
        file = _RESULTS / f"{moment}{kind}{suffix}"
        file.write_text(text)
        files.append(file.relative_to(ROOT))
    return files


def keep(file: Path, text: str) -> None:
    """Write a file of the repository, and say so."""
    file.write_text(text)
    say(f"saved {file.relative_to(ROOT)}")


def renewed(document: str, name: str, text: str) -> str:
    """
    Put a text into a document, between the two comments that have its name.

    Args:
        document: The document; returned unchanged where it has no such place.
        name: The name in the comments.
        text: What goes there.
    """
    place = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    return place.sub(lambda match: f"{match[1]}{text}{match[2]}", document)
