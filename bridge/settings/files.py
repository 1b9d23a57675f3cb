"""
Files with secrets and certificates, which are replaced while the bridge runs.

They are read on the event loop, so that opening one must not block: a FIFO that has
no writer blocks for as long as nobody writes.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


__all__ = [
    "Signature",
    "open_regular",
    "require_regular",
    "signature",
    "signature_of",
]

# Device, inode, time and size.
Signature = tuple[int, int, int, int]


def signature(path: str | Path) -> Signature | None:
    """
    Return a file's signature, which differs once the file is replaced.

    It follows links: Kubernetes replaces only a link to a mounted Secret. It takes some
    microseconds and doesn't block.

    Returns:
        The signature, or None if there is no such file.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path adds nothing here
    except OSError:
        return None
    return signature_of(status)


def signature_of(status: os.stat_result) -> Signature:
    """Return the signature of a file that is open."""
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def open_regular(path: str | Path) -> BinaryIO:
    """
    Open a file for reading, without blocking.

    Raises:
        OSError: It can't be opened, or is a FIFO, a device, a socket or a directory.
        ValueError: The path has a NUL character.
    """
    # Without O_NONBLOCK, opening a FIFO waits for its writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "it is not a regular file")


def require_regular(path: str | Path) -> None:
    """
    Check a file that a library opens by its path, with an open that may block.

    Raises:
        OSError: As `open_regular`.
    """
    open_regular(path).close()
