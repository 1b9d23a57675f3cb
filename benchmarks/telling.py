"""What a benchmark says to whoever waits for it, beside its report."""

from __future__ import annotations

import sys


__all__ = ["say"]


def say(line: str) -> None:
    """Write a line to standard error, at once: standard output is the report's."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
