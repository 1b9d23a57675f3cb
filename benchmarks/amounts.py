"""Amounts on a benchmark's command line, as argparse takes them."""

from __future__ import annotations

import argparse


__all__ = ["count", "counts", "seconds"]


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


def seconds(text: str) -> float:
    """
    Read a time such as 90s, 10m or 1h.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    number = text[:-1] if unit else text
    if number.isdecimal():
        return float(number) * (unit or 1)
    raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 1h")
