"""
What would leave this machine in the clear: told of connections, barred for secrets.

A cluster's own network may do without TLS, so that a plain connection is only told of.
A password or a token that goes over one is lost to whoever listens, and is barred
unless `allow_cleartext_credentials` says otherwise. SCRAM proves a password without
showing it. No name is looked up: only loopback counts as this machine. What others
open is not judged: dryAPI sends webhooks over TLS alone, and what ends it before the
bridge is mostly an ingress, next to it.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bridge.settings.addresses import split_address


__all__ = ["exposed_connections", "exposed_credentials", "is_this_machine"]

Values = Mapping[str, Any]

# Mechanisms that send what another could sign in with.
_SHOWING = {
    "PLAIN": "password",
    "OAUTHBEARER": "token",
    "AWS_MSK_IAM": "signed request",
}


def is_this_machine(host: str) -> bool:
    """Whether what is sent to a host stays on this machine, by its name alone."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def exposed_credentials(values: Values) -> Iterator[tuple[str, str]]:
    """
    Find secrets that would go to another machine without TLS.

    Args:
        values: As `contradictions` takes them.

    Yields:
        As `contradictions` does.
    """
    if values.get("allow_cleartext_credentials", True):
        return
    host = next(_brokers(values), None)
    mechanism = values.get("kafka.sasl_mechanism")
    if (
        host is not None
        and mechanism in _SHOWING
        and values.get("kafka.security_protocol") == "SASL_PLAINTEXT"
    ):
        yield (
            "kafka.security_protocol",
            _barred(
                f"would show the {_SHOWING[mechanism]} of {mechanism}",
                host,
                "SASL_SSL, or kafka.sasl_mechanism SCRAM-SHA-512",
            ),
        )
    for path, secret in (
        ("api_url", "would show the API token"),
        ("kafka.sasl_oauth_token_url", "would show the client secret"),
    ):
        host = _plain_host(values.get(path))
        if host is not None:
            yield path, _barred(secret, host, "https://")
    host = _plain_host(values.get("schema_registry.url"))
    if host is not None and values.get("schema_registry.password") is not None:
        yield (
            "schema_registry.url",
            _barred("would show schema_registry.password", host, "https://"),
        )


def exposed_connections(values: Values) -> Iterator[tuple[str, str]]:
    """
    Find connections to other machines that nothing encrypts.

    Args:
        values: As `contradictions` takes them.

    Yields:
        The path of a setting, and a sentence's end that follows its names.
    """
    protocol = values.get("kafka.security_protocol")
    if protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}:
        secure = "SASL_SSL" if protocol.startswith("SASL_") else "SSL"
        for host in _brokers(values):
            yield (
                "kafka.security_protocol",
                _open(protocol, host, f"{secure} is what encrypts"),
            )
            break
    for path in ("api_url", "pusher.url", "kafka.sasl_oauth_token_url"):
        yield from _open_url(values, path)
    yield from _open_url(values, "schema_registry.url")


def _open_url(values: Values, path: str) -> Iterator[tuple[str, str]]:
    host = _plain_host(values.get(path))
    if host is not None:
        scheme = urllib.parse.urlsplit(values[path]).scheme
        yield path, _open(f"{scheme}://", host, f"{scheme}s:// is what encrypts")


def _open(what: str, host: str, instead: str) -> str:
    return (
        f"is {what}: whatever goes to {host} can be read and changed on its way;"
        f" {instead}"
    )


def _barred(what: str, host: str, instead: str) -> str:
    return (
        f"{what} to whoever listens on the way to {host}: it must be {instead}; or set"
        " allow_cleartext_credentials (BRIDGE_ALLOW_CLEARTEXT_CREDENTIALS) to true"
    )


def _brokers(values: Values) -> Iterator[str]:
    """Give the brokers' hosts that aren't this machine."""
    servers = values.get("kafka.bootstrap_servers")
    parts: Iterable[str] = () if servers is None else servers.split(",")
    for part in parts:
        host, _ = split_address(part.strip())
        if not is_this_machine(host):
            yield host


def _plain_host(url: str | None) -> str | None:
    """Give the host of a URL without TLS that isn't this machine."""
    if url is None:
        return None
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "ws"} or is_this_machine(host):
        return None
    return host
