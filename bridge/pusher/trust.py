"""
Whom to trust at dryAPI, followed while the file that says so is exchanged.

The socket and the requests for signatures share it. What a certificate that isn't
accepted means stands in `transport`.
"""

from __future__ import annotations

import ssl

import structlog

from bridge.errors import ConfigError
from bridge.pusher.transport import client_context
from bridge.settings import signature


__all__ = ["Trust"]

_log = structlog.get_logger("bridge.pusher")


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
        self._signature = signature(ca_file) if ca_file else None
        self._context = client_context(ca_file)

    def context(self) -> ssl.SSLContext:
        """
        Give the context for a connection that is made now.

        A file that can't be used leaves the one of before in place, until it changes
        again: rotations are seldom atomic.
        """
        found = signature(self._ca_file) if self._ca_file else None
        if found == self._signature:
            return self._context
        self._signature = found
        try:
            self._context = client_context(self._ca_file)
        except ConfigError as error:
            _log.warning("credentials.unfit", error=str(error))
        else:
            _log.info("credentials.renewed", what="certificates of pusher.ca_file")
        return self._context
