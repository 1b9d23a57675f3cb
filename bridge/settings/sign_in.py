"""
How the bridge signs in to Kafka: which settings each way needs and which it bars.

It judges finished values, as `checks` does, which calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


__all__ = [
    "is_extension_list",
    "is_region",
    "sign_in_problems",
    "split_extensions",
    "tls_problems",
]

Values = Mapping[str, Any]

_PASSWORD = ("kafka.sasl_username", "kafka.sasl_password")
_OAUTH = (
    "kafka.sasl_oauth_token_url",
    "kafka.sasl_oauth_client_id",
    "kafka.sasl_oauth_client_secret",
)
_AWS = ("kafka.sasl_aws_region",)

# What each mechanism can't do without.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "PLAIN": _PASSWORD,
    "SCRAM-SHA-256": _PASSWORD,
    "SCRAM-SHA-512": _PASSWORD,
    "OAUTHBEARER": _OAUTH,
    "AWS_MSK_IAM": _AWS,
}
# What a mechanism may have besides.
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "OAUTHBEARER": (
        "kafka.sasl_oauth_scope",
        "kafka.sasl_oauth_audience",
        "kafka.sasl_oauth_extensions",
        "kafka.sasl_oauth_ca_file",
    )
}

# RFC 7628, section 3.1: `key = 1*(ALPHA)`, and a value of visible ASCII and spaces.
# `auth` carries the token itself.
_EXTENSION = re.compile(r"(?!auth=)[A-Za-z]+=[\x21-\x2b\x2d-\x7e][\x20-\x2b\x2d-\x7e]*")

# It becomes part of a host name.
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")


def split_extensions(text: str) -> list[str]:
    """Take the extensions of `kafka.sasl_oauth_extensions` apart."""
    return [part.strip() for part in text.split(",")]


def is_extension_list(text: str) -> bool:
    """Whether a text holds SASL extensions, and none twice."""
    parts = split_extensions(text)
    names = {part.partition("=")[0] for part in parts}
    return len(names) == len(parts) and all(map(_EXTENSION.fullmatch, parts))


def is_region(text: str) -> bool:
    """Whether a text can be the name of an AWS region."""
    return _REGION.fullmatch(text) is not None


def sign_in_problems(values: Values) -> Iterator[tuple[str, str]]:
    """
    Find what is missing for the mechanism that is set, and what it leaves unused.

    Args:
        values: As `contradictions` takes them.

    Yields:
        As `contradictions` does.
    """
    protocol = values.get("kafka.security_protocol")
    if protocol is None or "kafka.sasl_mechanism" not in values:
        return
    mechanism = values["kafka.sasl_mechanism"]
    given = [path for path in _all_paths() if values.get(path) is not None]
    if not protocol.startswith("SASL_"):
        if mechanism is not None:
            given.insert(0, "kafka.sasl_mechanism")
        for path in given:
            yield path, _unused(protocol, "SASL_SSL or SASL_PLAINTEXT")
        return
    if mechanism is None:
        yield (
            "kafka.sasl_mechanism",
            f"is missing: kafka.security_protocol {protocol} needs it",
        )
        return
    for path in _NEEDED[mechanism]:
        if path in values and values[path] is None:
            yield path, f"is missing: kafka.sasl_mechanism {mechanism} needs it"
    for path in given:
        users = _users(path)
        if mechanism not in users:
            yield (
                path,
                (
                    "is set, but kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM) is "
                    f"{mechanism}: it must be {' or '.join(users)}"
                ),
            )


def tls_problems(values: Values) -> Iterator[tuple[str, str]]:
    """
    Find certificates without key or the reverse, and those that nothing uses.

    Args:
        values: As `contradictions` takes them.

    Yields:
        As `contradictions` does.
    """
    protocol = values.get("kafka.security_protocol")
    certificate = values.get("kafka.ssl_cert_file")
    key = values.get("kafka.ssl_key_file")
    if certificate is not None and key is None and "kafka.ssl_key_file" in values:
        yield "kafka.ssl_key_file", "is missing: kafka.ssl_cert_file needs it"
    if key is not None and certificate is None and "kafka.ssl_cert_file" in values:
        yield "kafka.ssl_cert_file", "is missing: kafka.ssl_key_file needs it"
    if key is None and values.get("kafka.ssl_key_password") is not None:
        yield "kafka.ssl_key_password", "is set, but kafka.ssl_key_file is not"
    if protocol is None or protocol.endswith("SSL"):
        return
    for path in ("kafka.ssl_ca_file", "kafka.ssl_cert_file", "kafka.ssl_key_file"):
        if values.get(path) is not None:
            yield path, _unused(protocol, "SSL or SASL_SSL")


def _all_paths() -> dict[str, None]:
    """Give every setting that some mechanism uses, each once."""
    groups = (*_NEEDED.values(), *_OPTIONAL.values())
    return dict.fromkeys(path for group in groups for path in group)


def _users(path: str) -> list[str]:
    """Give the mechanisms that use a setting."""
    return [
        mechanism
        for mechanism, needed in _NEEDED.items()
        if path in needed or path in _OPTIONAL.get(mechanism, ())
    ]


def _unused(protocol: str, needed: str) -> str:
    return (
        "is set, but kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL) is "
        f"{protocol}: it must be {needed}"
    )
