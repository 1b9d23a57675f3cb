"""
A file that a command is to write, made before anything starts.

What stands in it is for the room that writes it.
"""

from __future__ import annotations

import os
from pathlib import Path

import click


__all__ = ["create"]


def create(path: Path, option: str) -> None:
    """
    Create an empty file that its owner alone may read.

    Args:
        path: Where. Nothing may stand there, not even a link that leads nowhere.
        option: The option that names it, for messages.

    Raises:
        click.UsageError: It exists, or can't be created; the message names it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        # What was recorded may be the only evidence of a failure.
        raise click.UsageError(
            f"{option}: {path} exists and is not written over; name a new file."
        ) from None
    except OSError as error:
        raise click.UsageError(
            f"{option}: {path} can't be created: {error.strerror}."
        ) from None
    os.close(descriptor)
