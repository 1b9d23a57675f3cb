"""
Ending TLS at a port: a certificate chain and its key, from files that are exchanged.

TLS 1.2 and 1.3, and HTTP/1.1 alone: HTTP/2 has a flood for each kind of frame, and
saves nothing to clients that send some hundred bytes now and then.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from bridge.errors import ConfigError
from bridge.settings import require_regular


__all__ = ["Certificate", "Tls"]

_log = structlog.get_logger("bridge.serving")

# OpenSSL's words for two keys of one kind, and of two kinds.
_MISMATCHES = {"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """
    Where a port's certificate lies.

    Attributes:
        cert_file: The certificate chain, PEM.
        key_file: Its key, PEM, without a password.
        signature: Tells a file's state; another one means that it was exchanged.
        settings: The settings that the two files came from, for errors.
    """

    cert_file: str
    key_file: str
    signature: Callable[[str], object]
    settings: tuple[str, str] = ("webhook.tls_cert_file", "webhook.tls_key_file")


class Certificate:
    """
    Gives the context for each handshake: the files may be exchanged.

    Args:
        tls: Where they lie.

    Raises:
        ConfigError: They can't be used.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        # Before they are read: what changes meanwhile is not missed.
        self._state = self._look()
        self._context = _context(tls)

    def context(self) -> ssl.SSLContext:
        """
        Give the context for a handshake that begins now.

        Files that can't be used leave the pair of before in place, until they change
        again: rotations are seldom atomic. To look takes some microseconds.
        """
        found = self._look()
        if found == self._state:
            return self._context
        self._state = found
        try:
            # A new one each time: loading a pair that doesn't fit would leave the
            # present context without its own key.
            self._context = _context(self._tls)
        except ConfigError as error:
            _log.warning("credentials.invalid", error=str(error))
        else:
            names = " and ".join(self._tls.settings)
            _log.info("credentials.renewed", what=f"certificate of {names}")
        return self._context

    def _look(self) -> tuple[object, object]:
        tls = self._tls
        return tls.signature(tls.cert_file), tls.signature(tls.key_file)


def _context(tls: Tls) -> ssl.SSLContext:
    for setting, path in zip(tls.settings, (tls.cert_file, tls.key_file), strict=True):
        try:
            require_regular(path)
        except OSError as error:
            # load_cert_chain would not say which of the two it is.
            raise ConfigError(
                f"{_named(setting)}: {path} can't be read: {error.strerror or error}"
            ) from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could ask for one handshake after the other.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    reason = "one of them is no PEM file of its kind"

    def no_password() -> str:
        # OpenSSL itself would ask at the terminal, and wait.
        nonlocal reason
        reason = "the key has a password"
        return ""

    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, no_password)
    except OSError as error:  # ssl.SSLError is one
        if getattr(error, "reason", None) in _MISMATCHES:
            reason = "they don't fit each other"
        cert, key = map(_named, tls.settings)
        raise ConfigError(
            f"{cert} and {key}: {tls.cert_file} and {tls.key_file} can't be used, "
            f"{reason}; expected are PEM files: a certificate chain, and the key that "
            "fits it, without a password"
        ) from error
    return context


def _named(setting: str) -> str:
    return f"{setting} (BRIDGE_{setting.upper().replace('.', '_')})"
