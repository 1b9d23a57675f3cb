"""
Whom the bridge trusts at a broker, and what it shows of itself.

Owns the way from the settings' files to a TLS context. When files are read again is
`credentials`' business, what a failed handshake means `diagnosis`'.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from bridge.errors import ConfigError
from bridge.settings import KafkaSettings, Signature, require_regular, signature


__all__ = ["TlsFiles", "authorities", "tls_context", "tls_files"]

# Of each file; None for one that isn't there.
TlsFiles = tuple[Signature | None, ...]


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """
    Make the TLS context: the machine's authorities or `ssl_ca_file`.

    Raises:
        ConfigError: A file is missing, unreadable or no PEM of its kind.
    """
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
    """
    Make a context that trusts a file's certificates, or the machine's.

    Args:
        setting: Whose value the path is, for the error.
        path: The file, or None.

    Raises:
        ConfigError: It is missing, unreadable or holds no certificate.
    """
    with _usable(setting, path):
        if path is not None:
            require_regular(path)
        return ssl.create_default_context(cafile=path)


def tls_files(settings: KafkaSettings) -> TlsFiles:
    """Tell the state of the files that a context is made of, to compare with later."""
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
            f"{setting} ({variable}): {path} can't be used: "
            f"{error.strerror or error}. Expected is a readable PEM file"
            + (
                ", with kafka.ssl_key_file the key that fits it (and"
                " kafka.ssl_key_password where that is encrypted)."
                if "cert" in setting
                else "."
            )
        ) from error
