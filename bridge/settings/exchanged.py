"""
Telling whether a file has been exchanged since it was read.

Secrets and certificates are. What is done about it is decided by whoever reads them.
"""

from __future__ import annotations

import os
from pathlib import Path


__all__ = ["Signature", "signature", "signature_of"]

# Device, inode, time and size.
Signature = tuple[int, int, int, int]


def signature(path: str | Path) -> Signature | None:
    """
    Tell a file's signature; None for one that isn't there.

    It follows links: Kubernetes exchanges a mounted secret's link alone. It takes some
    microseconds and doesn't wait.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path adds nothing here
    except OSError:
        return None
    return signature_of(status)


def signature_of(status: os.stat_result) -> Signature:
    """Tell the signature of a file that is open."""
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
