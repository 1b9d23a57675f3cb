"""
A file that a command is to write, made before anything starts.

What stands in it is for the room that writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click


__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, option: str) -> Iterator[None]:
    """
    Create an empty file that its owner alone may read, and take an unused one away.

    So a start that came to nothing can be repeated as it was typed.

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
    try:
        yield
    finally:
        # Whoever took it away or wrote to it meanwhile has the say.
        with suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()
