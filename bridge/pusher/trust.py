"""
Whom to trust at dryAPI, followed while the file that says so is exchanged.

The socket and the requests for signatures share it. What a certificate that isn't
accepted means stands in `transport`.
"""

from __future__ import annotations

import os
import ssl

import structlog

from bridge.errors import ConfigError
from bridge.pusher.transport import client_context


__all__ = ["Trust"]

_log = structlog.get_logger("bridge.pusher")

# Device, inode, time and size; None for a file that isn't there.
_Signature = tuple[int, int, int, int] | None


class Trust:
    """
    Gives the context for each connection: an authority may be exchanged.

    Reading the system's certificates takes tens of milliseconds and half a megabyte:
    that is done once, and for all accounts together.

    Args:
        ca_file: Certificates (PEM) to trust instead of the system's, or None.

    Raises:
        ConfigError: The file can't be read or holds no certificate.
    """

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file
        # Before it is read: what changes meanwhile is not missed.
        self._signature = _signature(ca_file)
        self._context = client_context(ca_file)

    def context(self) -> ssl.SSLContext:
        """
        Give the context for a connection that is made now.

        A file that can't be used leaves the one of before in place, until it changes
        again: rotations are seldom atomic.
        """
        signature = _signature(self._ca_file)
        if signature == self._signature:
            return self._context
        self._signature = signature
        try:
            self._context = client_context(self._ca_file)
        except ConfigError as error:
            _log.warning("credentials.unfit", error=str(error))
        else:
            _log.info("credentials.renewed", what="certificates of pusher.ca_file")
        return self._context


def _signature(path: str | None) -> _Signature:
    if path is None:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - Path adds nothing here
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
