"""
What types can't say: addresses, files, and settings that must fit each other.

Each check looks at finished values and gives the setting that is wrong with
what is wrong. It neither knows where a value came from nor prints anything. How
the bridge signs in to Kafka is judged in `sign_in`, what it would send in the clear in
`exposure`.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bridge.settings.addresses import split_address
from bridge.settings.exchanged import open_regular
from bridge.settings.exposure import exposed_credentials
from bridge.settings.sign_in import (
    is_extension_list,
    is_region,
    sign_in_problems,
    tls_problems,
)


__all__ = ["ACCEPTS", "contradictions", "is_api_token"]

Values = Mapping[str, Any]

# Kafka's Topic.MAX_NAME_LENGTH.
_LONGEST_TOPIC = 249
# Visible ASCII: what may follow "Bearer " in a header (RFC 9110, section 5.5).
_API_TOKEN = re.compile(r"[\x21-\x7e]+")


def is_api_token(text: str) -> bool:
    """Whether a text can stand in an Authorization header."""
    return _API_TOKEN.fullmatch(text) is not None


def _is_secret_list(text: str) -> bool:
    # HMAC takes any bytes; what can't be typed was not copied whole.
    parts = text.split()
    return bool(parts) and all(part.isascii() and part.isprintable() for part in parts)


def _is_url(*schemes: str) -> Callable[[str], bool]:
    def accepts(text: str) -> bool:
        # urlsplit drops tabs and line ends without a word.
        if any(character.isspace() for character in text):
            return False
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port
        except ValueError:
            return False
        return (
            parts.scheme in schemes
            and bool(parts.hostname)
            # Credentials in a URL would end up in logs.
            and "@" not in parts.netloc
            and port != 0
            and not parts.query
            and not parts.fragment
        )

    return accepts


def _is_address(text: str) -> bool:
    try:
        split_address(text)
    except ValueError:
        return False
    return True


def _is_server_list(text: str) -> bool:
    try:
        return all(split_address(part.strip())[1] > 0 for part in text.split(","))
    except ValueError:
        return False


def _is_host_list(text: str) -> bool:
    # A port would never be met: what a browser adds is taken off.
    try:
        return all(split_address(f"{part.strip()}:80") for part in text.split(","))
    except ValueError:
        return False


# What a text must fulfil beyond its pattern, by path.
ACCEPTS: Mapping[str, Callable[[str], bool]] = {
    "api_url": _is_url("https", "http"),
    "pusher.url": _is_url("wss", "ws"),
    "kafka.bootstrap_servers": _is_server_list,
    "kafka.sasl_oauth_token_url": _is_url("https", "http"),
    "kafka.sasl_oauth_extensions": is_extension_list,
    "kafka.sasl_aws_region": is_region,
    "schema_registry.url": _is_url("https", "http"),
    "operations.listen": _is_address,
    "operations.hosts": _is_host_list,
    "board.listen": _is_address,
    "board.hosts": _is_host_list,
    "webhook.listen": _is_address,
    "webhook.secret": _is_secret_list,
    # That of an account in a list.
    "webhook_secret": _is_secret_list,
    "api_token": is_api_token,
}


def contradictions(values: Values) -> Iterator[tuple[str, str]]:
    """
    Find settings that are fine alone and wrong together.

    Args:
        values: Every value by path; those that were wrong already are left out.

    Yields:
        The path of a setting, and a sentence's end that follows its names.
    """
    yield from _topics(values)
    yield from sign_in_problems(values)
    yield from tls_problems(values)
    yield from exposed_credentials(values)
    yield from _files(values)
    yield from _registry(values)
    yield from _webhook(values)
    first, longest = (
        values.get("pusher.backoff_initial_seconds"),
        values.get("pusher.backoff_max_seconds"),
    )
    if first is not None and longest is not None and longest < first:
        yield (
            "pusher.backoff_max_seconds",
            f"must be at least pusher.backoff_initial_seconds, which is {first:g}",
        )


def _topics(values: Values) -> Iterator[tuple[str, str]]:
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
            yield (
                path,
                (
                    f"must be set, because the topic's name with {suffix} would be "
                    f"longer than the {_LONGEST_TOPIC} characters that Kafka allows"
                ),
            )
        if name in seen:
            yield path, f"must differ from {seen[name]}"
        seen.setdefault(name, path)


def _registry(values: Values) -> Iterator[tuple[str, str]]:
    if "schema_registry.url" not in values:
        return
    names = ("schema_registry.username", "schema_registry.password")
    given = {path for path in names if values.get(path) is not None}
    if values["schema_registry.url"] is None:
        for path in (*names, "schema_registry.ca_file"):
            if values.get(path) is not None:
                yield path, "is set, but schema_registry.url is not"
    elif len(given) == 1:
        (path,) = set(names) - given
        if path in values:
            yield path, f"is missing: {given.pop()} needs it"


def _webhook(values: Values) -> Iterator[tuple[str, str]]:
    names = ("webhook.secret", "webhook.tls_cert_file", "webhook.tls_key_file")
    given = {path for path in names if values.get(path) is not None}
    if "webhook.listen" not in values:
        return
    listen = values["webhook.listen"]
    if listen is None:
        for path in names:
            if path in given:
                yield path, "is set, but webhook.listen is not"
        return
    # It is no value where accounts are listed: each has its own.
    if "webhook.secret" in values and "webhook.secret" not in given:
        yield "webhook.secret", "is missing: webhook.listen needs it"
    pair = set(names[1:])
    if len(given & pair) == 1 and pair <= values.keys():
        (path,) = pair - given
        yield path, f"is missing: {(given & pair).pop()} needs it"
    operations = values.get("operations.listen")
    if operations is not None and _is_same_port(listen, operations):
        yield "webhook.listen", f"must differ from operations.listen, {operations}"


def _is_same_port(one: str, other: str) -> bool:
    """Whether one of two addresses keeps the other from being opened."""
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    everywhere = {"0.0.0.0", "::"}  # noqa: S104 - nothing is bound
    return (
        # The system chooses for each.
        port == other_port != 0
        and (host == other_host or not everywhere.isdisjoint((host, other_host)))
    )


def _files(values: Values) -> Iterator[tuple[str, str]]:
    for path in (
        "pusher.ca_file",
        "schema_registry.ca_file",
        "kafka.ssl_ca_file",
        "kafka.ssl_cert_file",
        "kafka.ssl_key_file",
        "kafka.sasl_oauth_ca_file",
        "webhook.tls_cert_file",
        "webhook.tls_key_file",
    ):
        name = values.get(path)
        if name is None:
            continue
        try:
            with open_regular(name) as file:
                file.read(1)
        except OSError as error:
            yield path, f"names a file that can't be read: {error.strerror}"
