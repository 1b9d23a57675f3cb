"""The certificate chain and key with which a port ends TLS, from exchanged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


__all__ = ["Tls"]


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
