"""
TLS contexts for brokers: the CAs that the bridge trusts, and its client certificate.

A context follows the settings' files when they change. What a failed handshake means is
in `probe`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any, Self

import structlog

from bridge.errors import ConfigError
from bridge.settings import KafkaSettings, Signature, require_regular, signature


__all__ = ["FollowingContext", "authorities", "tls_context"]

_log = structlog.get_logger("bridge.kafka")


class FollowingContext(ssl.SSLContext):
    """
    A context whose next connection is made with what the files hold by then.

    A client of aiokafka keeps the one context that it was made with. Files that don't
    fit each other yet leave what was there in use, until the next connection.
    """

    def __new__(cls, settings: KafkaSettings) -> Self:
        """Make one that verifies; it takes no part in a connection itself."""
        del settings
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        # Taken before they are read, so that no change in between is missed.
        self._files = _files(settings)
        self._current = tls_context(settings)
        self._reported: str | None = None

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio does it."""
        self._follow()
        return self._current.wrap_bio(*arguments, **options)

    def _follow(self) -> None:
        files = _files(self._settings)
        if files == self._files:
            return
        try:
            self._current = tls_context(self._settings)
        except ConfigError as error:
            if str(error) != self._reported:
                self._reported = str(error)
                _log.warning("credentials.invalid", error=self._reported)
            return
        self._files, self._reported = files, None
        _log.info("credentials.renewed", what="certificates")


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Make a TLS context of today's files; `ConfigError` if one can't be used."""
    context = authorities("kafka.ssl_ca_file", settings.ssl_ca_file)
    if settings.ssl_cert_file is not None:
        password = settings.ssl_key_password
        with _usable("kafka.ssl_cert_file", settings.ssl_cert_file):
            for path in (settings.ssl_cert_file, settings.ssl_key_file):
                if path is not None:
                    require_regular(path)
            context.load_cert_chain(
                settings.ssl_cert_file,
                settings.ssl_key_file,
                # Without one OpenSSL would ask at the terminal, and wait.
                "" if password is None else password.reveal(),
            )
    return context


def authorities(setting: str, path: str | None) -> ssl.SSLContext:
    """Make a context that trusts a file's certificates, or the machine's."""
    with _usable(setting, path):
        if path is not None:
            require_regular(path)
        return ssl.create_default_context(cafile=path)


def _files(settings: KafkaSettings) -> tuple[Signature | None, ...]:
    """Give the state of the files, None for one that isn't there."""
    paths = (settings.ssl_ca_file, settings.ssl_cert_file, settings.ssl_key_file)
    return tuple(signature(path) for path in paths if path is not None)


@contextlib.contextmanager
def _usable(setting: str, path: str | None) -> Iterator[None]:
    """Translate what the ssl module says of a file."""
    variable = "BRIDGE_" + setting.upper().replace(".", "_")
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"{setting} ({variable}): {path} can't be used: {error.strerror or error}",
            hint="Expected is a readable PEM file"
            + (
                ", with kafka.ssl_key_file the key that fits it (and"
                " kafka.ssl_key_password where that is encrypted)"
                if "cert" in setting
                else ""
            ),
        ) from error
