"""
TLS contexts of clients and of servers, made again when their files change.

TLS 1.2 and 1.3, and HTTP/1.1 only: HTTP/2 has a flood for each kind of frame, and saves
nothing for requests of some hundred bytes.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

import structlog

from bridge.errors import ConfigError
from bridge.settings import require_regular, signature


__all__ = [
    "ReloadingContext",
    "certificate_fault",
    "client_context",
    "client_tls",
    "server_tls",
]

_log = structlog.get_logger("bridge.http")

# OpenSSL's words for two keys of one kind, and of two kinds.
_MISMATCHES: Final = {"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}

_CERT: Final = "webhook.tls_cert_file (BRIDGE_WEBHOOK_TLS_CERT_FILE)"
_KEY: Final = "webhook.tls_key_file (BRIDGE_WEBHOOK_TLS_KEY_FILE)"

# OpenSSL's X509_V_ERR_*: see its manual page of X509_STORE_CTX_get_error.
_NOT_NOW: Final = frozenset({9, 10})
_OTHER_NAMES: Final = frozenset({62, 64})


class ReloadingContext:
    """
    A TLS context that is made again when one of its files changes.

    Loading the system's certificates takes tens of milliseconds and half a megabyte, so
    all accounts share one instance.

    Args:
        make: Makes the context; raises ConfigError if the files can't be used.
        files: The files it reads.
        what: What is renewed, for the log.

    Raises:
        ConfigError: The files can't be used.
    """

    def __init__(
        self, make: Callable[[], ssl.SSLContext], files: list[str], what: str
    ) -> None:
        self._make = make
        self._files = files
        self._what = what
        # Taken before the files are read, so that no change in between is missed.
        self._signatures = [signature(file) for file in files]
        self._context = make()

    def current(self) -> ssl.SSLContext:
        """
        Return the context for a new connection. It takes some microseconds.

        Files that can't be used leave the previous context in place until they change
        again: rotations are seldom atomic.
        """
        found = [signature(file) for file in self._files]
        if found == self._signatures:
            return self._context
        self._signatures = found
        try:
            # A new one each time: a pair that doesn't fit would leave the present
            # context without its own key.
            self._context = self._make()
        except ConfigError as error:
            _log.warning("credentials.invalid", error=str(error))
        else:
            _log.info("credentials.renewed", what=self._what)
        return self._context


def client_tls(ca_file: str | None) -> ReloadingContext:
    """Return `client_context`'s context, which follows changes of its CA file."""
    files = [] if ca_file is None else [ca_file]
    what = "certificates of pusher.ca_file"
    return ReloadingContext(lambda: client_context(ca_file), files, what)


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """
    Make the context of a client that verifies certificates and host names.

    Args:
        ca_file: CA certificates (PEM) that replace the system's, or None.

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
            f"pusher.ca_file (BRIDGE_PUSHER_CA_FILE) can't be used: {reason}",
            hint="Set it to a readable file of certificates (PEM)",
        ) from error


def server_tls(cert_file: str, key_file: str) -> ReloadingContext:
    """
    Return the webhook port's context that follows changes of its certificate.

    Args:
        cert_file: The certificate chain, PEM.
        key_file: Its key, PEM, without a password.

    Raises:
        ConfigError: The files can't be used.
    """
    return ReloadingContext(
        lambda: _server_context(cert_file, key_file),
        [cert_file, key_file],
        "certificate of webhook.tls_cert_file and webhook.tls_key_file",
    )


def _server_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    for named, path in ((_CERT, cert_file), (_KEY, key_file)):
        try:
            require_regular(path)
        except OSError as error:
            # load_cert_chain would not say which of the two it is.
            raise ConfigError(
                f"{named}: {path} can't be read: {error.strerror or error}"
            ) from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could ask for one handshake after the other.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    reason = "one of them isn't a PEM file of its kind"

    def no_password() -> str:
        # OpenSSL itself would ask at the terminal, and wait.
        nonlocal reason
        reason = "the key has a password"
        return ""

    try:
        context.load_cert_chain(cert_file, key_file, no_password)
    except OSError as error:  # ssl.SSLError is one
        if getattr(error, "reason", None) in _MISMATCHES:
            reason = "they don't fit each other"
        raise ConfigError(
            f"{_CERT} and {_KEY}: {cert_file} and {key_file} can't be used, {reason}",
            hint="Expected are PEM files: a certificate chain, and the key that fits"
            " it, without a password",
        ) from error
    return context


def certificate_fault(
    error: ssl.SSLCertVerificationError, address: str, authorities: str
) -> tuple[str, str]:
    """
    Give what is wrong with a server's certificate, and what to do about it.

    Args:
        error: Why it was not accepted.
        address: The settings that have the server's name.
        authorities: The setting of the certificates to trust.
    """
    said = error.verify_message.rstrip(".")
    if error.verify_code in _NOT_NOW:
        hint = "Renew it on the server, and see that this machine's clock is right"
        return f"isn't valid now ({said})", hint
    if error.verify_code in _OTHER_NAMES:
        hint = f"Set {address} to a name that the certificate has"
        return f"is for another name ({said})", hint
    return f"isn't trusted ({said})", f"Set {authorities} to the CA that issued it"
