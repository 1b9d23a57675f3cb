"""
The file that a recording goes to, made before anything starts.

What stands in it is for the room that writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click


__all__ = ["recording_file"]

# What every recording begins with: `bridge.pusher.recorded_lines.first_line`.
_BEGINNING: Final = b'{"at":0.0,"kind":"started",'


@contextmanager
def recording_file(path: Path, option: str) -> Iterator[None]:
    """
    Create an empty file that its owner alone may read, or go on with a recording.

    A bridge that is started again with the same command, by a supervisor for
    instance, goes on where it ended. A file that stays empty is taken away.

    Args:
        path: Where. Nothing may stand there but a recording, not even a link.
        option: The option that names it, for messages.

    Raises:
        click.UsageError: It is something else, or can't be created; the message
            names it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if not _is_recording(path):
            raise click.UsageError(
                f"{option}: {path} exists and is no recording; name a new file."
            ) from None
    except OSError as error:
        raise click.UsageError(
            f"{option}: {path} can't be created: {error.strerror}."
        ) from None
    else:
        os.close(descriptor)
    try:
        yield
    finally:
        # Whoever took it away or wrote to it meanwhile has the say.
        with suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()


def _is_recording(path: Path) -> bool:
    # Neither a link is followed nor a pipe waited for.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False
    finally:
        os.close(descriptor)
