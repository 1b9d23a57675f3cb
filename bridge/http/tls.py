"""
TLS to dryAPI: which certificates the bridge accepts, read again when the file changes.

The WebSocket, channel authorization and the status endpoint share one context.
"""

from __future__ import annotations

import ssl

import structlog

from bridge.errors import ConfigError
from bridge.settings import require_regular, signature


__all__ = ["ReloadingContext", "client_context", "untrusted"]

_log = structlog.get_logger("bridge.http")


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """
    Make the context of a client that verifies certificates and host names.

    Args:
        ca_file: CA certificates (PEM) that replace the system's, or None.

    Returns:
        The context; any number of connections may share it.

    Raises:
        ConfigError: The file can't be read or holds no certificate.
    """
    try:
        if ca_file is not None:
            require_regular(ca_file)
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # SSLError is an OSError too: the file isn't PEM.
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"pusher.ca_file (BRIDGE_PUSHER_CA_FILE) can't be used: {reason}"
        ) from error


class ReloadingContext:
    """
    A client's TLS context that is made again when the CA file changes.

    Loading the system's certificates takes tens of milliseconds and half a megabyte,
    so all accounts share one instance.

    Args:
        ca_file: CA certificates (PEM) that replace the system's, or None.

    Raises:
        ConfigError: The file can't be read or holds no certificate.
    """

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file
        # Taken before the file is read, so that no change in between is missed.
        self._signature = signature(ca_file) if ca_file else None
        self._context = client_context(ca_file)

    def current(self) -> ssl.SSLContext:
        """
        Return the context for a new connection.

        A file that can't be used leaves the previous context in place until the file
        changes again: rotations are seldom atomic.
        """
        found = signature(self._ca_file) if self._ca_file else None
        if found == self._signature:
            return self._context
        self._signature = found
        try:
            self._context = client_context(self._ca_file)
        except ConfigError as error:
            _log.warning("credentials.invalid", error=str(error))
        else:
            _log.info("credentials.renewed", what="certificates of pusher.ca_file")
        return self._context


def untrusted(place: str, error: BaseException | None) -> str | None:
    """
    Describe a failure whose cause is a certificate that was not accepted.

    Args:
        place: The server, `host:port`.
        error: What failed; its causes are searched.

    Returns:
        The error message, or None if the certificate is not the cause.
    """
    cause = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return (
        f"the certificate of {place} was not accepted: {cause.verify_message}"
        " (for a private CA set pusher.ca_file, BRIDGE_PUSHER_CA_FILE)"
    )
