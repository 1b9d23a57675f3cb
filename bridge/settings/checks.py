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

import msgspec

from bridge.settings.model import by_path
from bridge.settings.secret import require_regular
from bridge.settings.setting import split_address


__all__ = [
    "RELATIONS",
    "Relation",
    "cleartext_warnings",
    "contradictions",
    "is_this_machine",
]

_Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]

# Kafka's Topic.MAX_NAME_LENGTH.
_LONGEST_TOPIC: Final = 249


def contradictions(values: _Values) -> _Found:
    """Find settings that are right by themselves and wrong together."""
    yield from _topics(values)
    yield from _relations(values)
    yield from _cleartext_credentials(values)
    yield from _files(values)
    yield from _webhook(values)


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """
    A setting that needs another one. The chart checks the same relations.

    Attributes:
        path: The setting.
        values: Its values that need the other one; all of them if empty.
        needs: The other setting's path.
        accepts: The values that the other one must have; any if empty.
    """

    path: str
    values: tuple[str, ...] = ()
    needs: str
    accepts: tuple[str, ...] = ()


def _both(one: str, other: str) -> tuple[Relation, Relation]:
    return Relation(path=one, needs=other), Relation(path=other, needs=one)


_SASL: Final = ("SASL_SSL", "SASL_PLAINTEXT")
_TLS: Final = ("SSL", "SASL_SSL")
_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_OAUTH: Final = ("OAUTHBEARER",)
_PROTOCOL: Final = "kafka.security_protocol"
_MECHANISM: Final = "kafka.sasl_mechanism"

# Mechanisms by what they need.
_NEEDED: Final = {
    "kafka.sasl_username": _PASSWORD,
    "kafka.sasl_password": _PASSWORD,
    "kafka.sasl_oauth_token_url": _OAUTH,
    "kafka.sasl_oauth_client_id": _OAUTH,
    "kafka.sasl_oauth_client_secret": _OAUTH,
    "kafka.sasl_aws_region": ("AWS_MSK_IAM",),
}
# And by what they may have besides.
_ALLOWED: Final = _NEEDED | {
    "kafka.sasl_oauth_scope": _OAUTH,
    "kafka.sasl_oauth_audience": _OAUTH,
    "kafka.sasl_oauth_extensions": _OAUTH,
    "kafka.sasl_oauth_ca_file": _OAUTH,
}
_CERTIFICATE: Final = ("kafka.ssl_cert_file", "kafka.ssl_key_file")
_REGISTRY_USER: Final = ("schema_registry.username", "schema_registry.password")
_WEBHOOK_TLS: Final = ("webhook.tls_cert_file", "webhook.tls_key_file")

# A setting that is wrong by one relation is not judged by those below it.
RELATIONS: Final[tuple[Relation, ...]] = (
    Relation(path=_PROTOCOL, values=_SASL, needs=_MECHANISM),
    *(
        Relation(path=path, needs=_PROTOCOL, accepts=_SASL)
        for path in (_MECHANISM, *_ALLOWED)
    ),
    *(
        Relation(path=path, needs=_PROTOCOL, accepts=_TLS)
        for path in ("kafka.ssl_ca_file", *_CERTIFICATE)
    ),
    *(
        Relation(path=path, needs=_MECHANISM, accepts=accepts)
        for path, accepts in _ALLOWED.items()
    ),
    *(
        Relation(path=_MECHANISM, values=values, needs=path)
        for path, values in _NEEDED.items()
    ),
    *_both(*_CERTIFICATE),
    Relation(path="kafka.ssl_key_password", needs="kafka.ssl_key_file"),
    *(
        Relation(path=path, needs="schema_registry.url")
        for path in (*_REGISTRY_USER, "schema_registry.ca_file")
    ),
    *_both(*_REGISTRY_USER),
    # With [[accounts]] it isn't among the values: each account has its own.
    Relation(path="webhook.listen", needs="webhook.secret"),
    *(
        Relation(path=path, needs="webhook.listen")
        for path in ("webhook.secret", *_WEBHOOK_TLS)
    ),
    *_both(*_WEBHOOK_TLS),
)


def _relations(values: _Values) -> _Found:
    wrong: set[str] = set()
    for one in RELATIONS:
        value = values.get(one.path)
        if value is None or one.needs not in values or one.path in wrong:
            continue
        if one.values and value not in one.values:
            continue
        other = values[one.needs]
        if other is None:
            what = f"{one.path} {value}" if one.values else one.path
            yield one.needs, f"is missing: {what} needs it"
        elif one.accepts and other not in one.accepts:
            wrong.add(one.path)
            name = f"{one.needs} ({by_path()[one.needs].variables[0]})"
            accepted = " or ".join(one.accepts)
            yield one.path, f"is set, but {name} is {other}: it must be {accepted}"


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


def _files(values: _Values) -> _Found:
    for path, setting in by_path().items():
        if setting.form is None or not setting.form.is_file:
            continue
        if (name := values.get(path)) is not None:
            try:
                require_regular(name)
            except OSError as error:
                yield path, f"names a file that can't be read: {error.strerror}"


def _webhook(values: _Values) -> _Found:
    if "webhook.listen" not in values:
        return
    listen = values["webhook.listen"]
    secrets = [path for path in values if path.endswith("].webhook_secret")]
    given = [path for path in secrets if values[path] is not None]
    if listen is None:
        for path in given:
            yield path, "is set, but webhook.listen is not"
        return
    if secrets and not given:
        yield (
            "webhook.listen",
            "is set, but none of the [[accounts]] has a webhook_secret_file",
        )
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
    if values.get("schema_registry.password") is not None:
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
