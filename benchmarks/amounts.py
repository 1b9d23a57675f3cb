"""Amounts on a benchmark's command line, as argparse takes them."""

from __future__ import annotations

import argparse


__all__ = ["count", "counts"]


def count(text: str) -> int:
    """
    Read a whole number above 0.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def counts(text: str) -> list[int]:
    """
    Read whole numbers with commas between them.

    Raises:
        argparse.ArgumentTypeError: They are none.
    """
    parts = text.split(",")
    if all(part.isascii() and part.isdigit() for part in parts):
        return [int(part) for part in parts]
    raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers")
