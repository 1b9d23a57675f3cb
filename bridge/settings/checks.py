"""
Values that are right by themselves and wrong together, and files that can't be read.

Each check gets the values by path, without those that were wrong already, and gives
the path of the setting to change with the end of a sentence that begins with its names.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bridge.settings.catalog import by_path
from bridge.settings.metadata import split_address
from bridge.settings.secret import require_regular


__all__ = ["cleartext_warnings", "contradictions", "is_this_machine"]

_Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]

# Kafka's Topic.MAX_NAME_LENGTH.
_LONGEST_TOPIC: Final = 249


def contradictions(values: _Values) -> _Found:
    """Find settings that are right by themselves and wrong together."""
    yield from _topics(values)
    yield from _authentication(values)
    yield from _tls(values)
    yield from _cleartext_credentials(values)
    yield from _files(values)
    yield from _registry(values)
    yield from _webhook(values)


def _given(values: _Values, *paths: str) -> list[str]:
    return [path for path in paths if values.get(path) is not None]


def _together(values: _Values, one: str, other: str) -> _Found:
    """Find one of two settings that need each other."""
    for path, partner in ((one, other), (other, one)):
        if values.get(path) is not None and values.get(partner, path) is None:
            yield partner, f"is missing: {path} needs it"


def _topics(values: _Values) -> _Found:
    topic = values.get("topic")
    if topic is None:
        return
    seen = {topic: "topic"}
    suffixes = {"topics.dead_letters": ".dlq", "topics.gaps": ".gaps"}
    if values.get("previews") == "topic":
        suffixes["topics.previews"] = ".previews"
    for path, suffix in suffixes.items():
        if path not in values:
            continue
        name = values[path] or topic + suffix
        if values[path] is None and len(name) > _LONGEST_TOPIC:
            most = f"the {_LONGEST_TOPIC} characters that Kafka allows"
            yield path, f"must be set: TOPIC{suffix} would be longer than {most}"
        if name in seen:
            yield path, f"must differ from {seen[name]}"
        seen.setdefault(name, path)


_PASSWORD: Final = ("kafka.sasl_username", "kafka.sasl_password")
_OAUTH: Final = (
    "kafka.sasl_oauth_token_url",
    "kafka.sasl_oauth_client_id",
    "kafka.sasl_oauth_client_secret",
)

# What each mechanism needs.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "PLAIN": _PASSWORD,
    "SCRAM-SHA-256": _PASSWORD,
    "SCRAM-SHA-512": _PASSWORD,
    "OAUTHBEARER": _OAUTH,
    "AWS_MSK_IAM": ("kafka.sasl_aws_region",),
}
# What a mechanism may have besides.
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "OAUTHBEARER": (
        "kafka.sasl_oauth_scope",
        "kafka.sasl_oauth_audience",
        "kafka.sasl_oauth_extensions",
        "kafka.sasl_oauth_ca_file",
    )
}
# The mechanisms that use a setting.
_MECHANISMS: Final[Mapping[str, list[str]]] = {
    path: [
        name
        for name, needed in _NEEDED.items()
        if path in (*needed, *_OPTIONAL.get(name, ()))
    ]
    for paths in (*_NEEDED.values(), *_OPTIONAL.values())
    for path in paths
}


def _authentication(values: _Values) -> _Found:
    """Find what the SASL mechanism lacks, and what it doesn't use."""
    protocol = values.get("kafka.security_protocol")
    if protocol is None or "kafka.sasl_mechanism" not in values:
        return
    mechanism = values["kafka.sasl_mechanism"]
    if not protocol.startswith("SASL_"):
        for path in _given(values, "kafka.sasl_mechanism", *_MECHANISMS):
            yield path, _unused(protocol, "SASL_SSL or SASL_PLAINTEXT")
        return
    if mechanism is None:
        path, needs = "kafka.sasl_mechanism", f"kafka.security_protocol {protocol}"
        yield path, f"is missing: {needs} needs it"
    for path in _NEEDED.get(mechanism, ()):
        if values.get(path, path) is None:
            yield path, f"is missing: kafka.sasl_mechanism {mechanism} needs it"
    for path in _given(values, *_MECHANISMS):
        if mechanism and mechanism not in _MECHANISMS[path]:
            needed = " or ".join(_MECHANISMS[path])
            setting = "kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM)"
            yield path, f"is set, but {setting} is {mechanism}: it must be {needed}"


def _tls(values: _Values) -> _Found:
    """Find a certificate without its key or the reverse, and those that TLS lacks."""
    yield from _together(values, "kafka.ssl_cert_file", "kafka.ssl_key_file")
    key = ("kafka.ssl_key_file", "kafka.ssl_key_password")
    if _given(values, *key) == ["kafka.ssl_key_password"]:
        yield "kafka.ssl_key_password", "is set, but kafka.ssl_key_file is not"
    protocol = values.get("kafka.security_protocol")
    if protocol is None or protocol.endswith("SSL"):
        return
    files = ("kafka.ssl_ca_file", "kafka.ssl_cert_file", "kafka.ssl_key_file")
    for path in _given(values, *files):
        yield path, _unused(protocol, "SSL or SASL_SSL")


def _unused(protocol: str, needed: str) -> str:
    return (
        "is set, but kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL) is "
        f"{protocol}: it must be {needed}"
    )


def _files(values: _Values) -> _Found:
    for path, setting in by_path().items():
        if setting.form is None or not setting.form.is_file:
            continue
        if (name := values.get(path)) is not None:
            try:
                require_regular(name)
            except OSError as error:
                yield path, f"names a file that can't be read: {error.strerror}"


def _registry(values: _Values) -> _Found:
    names = ("schema_registry.username", "schema_registry.password")
    if "schema_registry.url" not in values:
        return
    if values["schema_registry.url"] is None:
        for path in _given(values, *names, "schema_registry.ca_file"):
            yield path, "is set, but schema_registry.url is not"
    else:
        yield from _together(values, *names)


def _webhook(values: _Values) -> _Found:
    secrets = [path for path in values if path.endswith("].webhook_secret")]
    files = ("webhook.tls_cert_file", "webhook.tls_key_file")
    if "webhook.listen" not in values:
        return
    listen = values["webhook.listen"]
    if listen is None:
        for path in _given(values, "webhook.secret", *files, *secrets):
            yield path, "is set, but webhook.listen is not"
        return
    if secrets and not _given(values, *secrets):
        yield (
            "webhook.listen",
            "is set, but none of the [[accounts]] has a webhook_secret_file",
        )
    # It isn't among the values where accounts are listed: each has its own.
    if "webhook.secret" in values and values["webhook.secret"] is None:
        yield "webhook.secret", "is missing: webhook.listen needs it"
    yield from _together(values, *files)
    operations = values.get("operations.listen")
    if operations is not None and _is_same_port(listen, operations):
        yield "webhook.listen", f"must differ from operations.listen, {operations}"


def _is_same_port(one: str, other: str) -> bool:
    """Whether one of two addresses keeps the other from being opened."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 - nothing is bound
    return (
        # With 0 the system chooses for each.
        port == other_port != 0
        and (host == other_host or not everywhere.isdisjoint((host, other_host)))
    )


# -- Cleartext -----------------------------------------------------------------------
# A cluster's own network may do without TLS, so an unencrypted connection is a warning.
# A password or a token on one can be read by every machine on the path, and is an error
# unless `allow_cleartext_credentials` is set. SCRAM doesn't send its password.

# What a mechanism sends that another client could sign in with.
_SENT: Final = {
    "PLAIN": "password",
    "OAUTHBEARER": "token",
    "AWS_MSK_IAM": "signed request",
}
_URLS: Final = (
    "api_url",
    "pusher.url",
    "kafka.sasl_oauth_token_url",
    "schema_registry.url",
)


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine, by its name only: nothing is looked up."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def cleartext_warnings(values: _Values) -> _Found:
    """Find unencrypted connections to other machines."""
    protocol = values.get("kafka.security_protocol") or ""
    host = _broker(values)
    if protocol.endswith("PLAINTEXT") and host is not None:
        secure = "SASL_SSL" if protocol.startswith("SASL_") else "SSL"
        yield "kafka.security_protocol", _readable(protocol, host, secure)
    for path in _URLS:
        host = _plain_host(values.get(path))
        if host is not None:
            scheme = urllib.parse.urlsplit(values[path]).scheme
            yield path, _readable(f"{scheme}://", host, f"{scheme}s://")


def _readable(what: str, host: str, secure: str) -> str:
    return (
        f"is {what}: traffic to {host} can be read and changed on its path; {secure} "
        "encrypts it"
    )


def _cleartext_credentials(values: _Values) -> _Found:
    """Find secrets that would be sent to another machine without TLS."""
    if values.get("allow_cleartext_credentials", True):
        return
    mechanism, host = values.get("kafka.sasl_mechanism"), _broker(values)
    protocol = values.get("kafka.security_protocol")
    if host and mechanism in _SENT and protocol == "SASL_PLAINTEXT":
        yield (
            "kafka.security_protocol",
            _exposed(
                f"the {_SENT[mechanism]} of {mechanism}",
                host,
                "SASL_SSL, or kafka.sasl_mechanism SCRAM-SHA-512",
            ),
        )
    secrets = {
        "api_url": "the API token",
        "kafka.sasl_oauth_token_url": "the client secret",
    }
    if _given(values, "schema_registry.password"):
        secrets["schema_registry.url"] = "schema_registry.password"
    for path, secret in secrets.items():
        host = _plain_host(values.get(path))
        if host is not None:
            yield path, _exposed(secret, host, "https://")


def _exposed(secret: str, host: str, instead: str) -> str:
    return (
        f"would send {secret} to {host} unencrypted: it must be {instead}; or set "
        "allow_cleartext_credentials (BRIDGE_ALLOW_CLEARTEXT_CREDENTIALS) to true"
    )


def _broker(values: _Values) -> str | None:
    """Return the first broker's host that isn't this machine."""
    servers = values.get("kafka.bootstrap_servers") or ""
    for part in filter(None, servers.split(",")):
        host, _ = split_address(part.strip())
        if not is_this_machine(host):
            return host
    return None


def _plain_host(url: str | None) -> str | None:
    """Return the host of a URL without TLS that isn't this machine."""
    parts = urllib.parse.urlsplit(url or "")
    host = parts.hostname or ""
    if parts.scheme not in {"http", "ws"} or is_this_machine(host):
        return None
    return host
