"""
What the bridge itself reads of the OTEL_* variables: what the SDK would not say.

Owns which of them hold a secret, and what this exporter can't do. Everything else in
them is the SDK's own affair.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final


__all__ = ["other_protocol", "secrets_in"]

_PREFIXES: Final = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_PROTOCOL: Final = "http/protobuf"


def other_protocol(environ: Mapping[str, str]) -> str | None:
    """Name the variable that asks for another protocol, if one does."""
    for prefix in _PREFIXES:
        # The first that is set counts; empty is not set, says the specification.
        if value := environ.get(f"{prefix}PROTOCOL"):
            return None if value.strip() == _PROTOCOL else f"{prefix}PROTOCOL"
    return None


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Find what no log line may show: headers' values, and parts of URLs.

    The SDK logs headers that it can't read, and the HTTP client URLs that it couldn't
    reach.

    Args:
        environ: The process's variables.
    """
    for prefix in _PREFIXES:
        for header in environ.get(f"{prefix}HEADERS", "").split(","):
            value = header.partition("=")[2] or header
            yield from (value, urllib.parse.unquote(value))
        try:
            url = urllib.parse.urlsplit(environ.get(f"{prefix}ENDPOINT", ""))
        except ValueError:
            continue
        yield from (url.query, url.username or "", url.password or "")
