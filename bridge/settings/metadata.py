"""
How a setting is declared: `setting`, and what its text must look like.

Help, messages, documentation and the chart's schema are made from this.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

import msgspec


__all__ = [
    "API_TOKEN",
    "APP_KEY",
    "CLIENT_ID",
    "EXTENSIONS",
    "GIB",
    "HOSTS",
    "HOST_PORT",
    "HOST_PORTS",
    "HTTP_URL",
    "KIB",
    "MIB",
    "PEM_FILE",
    "REGION",
    "TOPIC",
    "WEBHOOK_SECRETS",
    "WS_URL",
    "Form",
    "setting",
    "split_address",
    "split_extensions",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# A port is 16 bits wide (RFC 9293, section 3.1); 0 asks the system for a free one.
_LARGEST_PORT: Final = 65_535


class Form(msgspec.Struct, frozen=True):
    """
    What a text must look like.

    Attributes:
        expected: In words; follows "must be".
        pattern: A regular expression that the whole text matches, as Python and RE2
            know it (Helm checks values with RE2).
        accepts: What no pattern can say.
        is_private: Whether a wrong text may be a secret that was put here by mistake.
        is_file: Whether it is the path of a file that must be readable.
    """

    expected: str
    pattern: str | None = None
    accepts: Callable[[str], bool] = lambda _: True
    is_private: bool = False
    is_file: bool = False

    def fits(self, text: str) -> bool:
        """Whether a text has this form."""
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return False
        return self.accepts(text)


def setting(  # noqa: PLR0913 - one keyword for each fact
    description: str,
    form: Form | None = None,
    *,
    default: Any = None,
    default_factory: Callable[[], Any] | None = None,
    because: str | None = None,
    default_text: str | None = None,
    flags: tuple[str, ...] = (),
    required: bool = False,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    """
    Declare a setting: a field of a dataclass, with what its type can't say.

    Args:
        description: What it is, without a full stop.
        form: What its text must look like.
        default: The default; None for none.
        default_factory: Makes a default that depends on the machine.
        because: Where the default comes from.
        default_text: The default in words, where its value says little.
        flags: Its flags on the command line; the first is the one in messages.
        required: Whether the bridge can't run without it.
        gt: The value is greater than this.
        ge: The value is at least this.
        le: The value is at most this.
    """
    metadata = {
        "description": description,
        "form": form,
        "because": because,
        "default_text": default_text,
        "flags": flags,
        "required": required,
        "exclusive_minimum": gt,
        "minimum": ge,
        "maximum": le,
    }
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


# -- Forms ---------------------------------------------------------------------------


def split_address(text: str) -> tuple[str, int]:
    """
    Split `host:port`; an IPv6 host is in brackets.

    Args:
        text: For instance `127.0.0.1:8080` or `[::1]:8080`.

    Returns:
        The host without brackets, and the port, 0 to 65535.

    Raises:
        ValueError: It isn't an address; the message doesn't repeat it.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if (
        not colon
        or not host
        or (":" in host) != bracketed
        or any(character.isspace() or character in "/@,[]" for character in host)
    ):
        raise ValueError("not an address")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError("not a number after the colon")
    if int(port) > _LARGEST_PORT:
        raise ValueError("port out of range")
    return host, int(port)


def split_extensions(text: str) -> list[str]:
    """Split `kafka.sasl_oauth_extensions`."""
    return [part.strip() for part in text.split(",")]


def _ports(texts: list[str]) -> list[int]:
    """Return the ports of addresses; none if one of them isn't an address."""
    try:
        return [split_address(text.strip())[1] for text in texts]
    except ValueError:
        return []


def _is_url(text: str) -> bool:
    # urlsplit removes tabs and line ends.
    if any(character.isspace() for character in text):
        return False
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    # Credentials in a URL would be logged.
    is_plain = "@" not in parts.netloc and not parts.query and not parts.fragment
    return is_plain and bool(parts.hostname) and port != 0


def _is_secret_list(text: str) -> bool:
    # HMAC takes any bytes; what can't be typed was not copied whole.
    parts = text.split()
    return bool(parts) and all(part.isascii() and part.isprintable() for part in parts)


# RFC 7628, section 3.1: `key = 1*(ALPHA)`, and a value of visible ASCII and spaces.
# `auth` is the token itself.
_EXTENSION: Final = re.compile(
    r"(?!auth=)[A-Za-z]+=[\x21-\x2b\x2d-\x7e][\x20-\x2b\x2d-\x7e]*"
)


def _is_extension_list(text: str) -> bool:
    parts = split_extensions(text)
    names = {part.partition("=")[0] for part in parts}
    return len(names) == len(parts) and all(map(_EXTENSION.fullmatch, parts))


# Kafka's Topic.validate.
TOPIC: Final = Form(
    "a Kafka topic's name: 1 to 249 letters, digits, dots, underscores or hyphens,"
    " and neither '.' nor '..'",
    "[a-zA-Z0-9._-]{1,249}",
    lambda text: text not in {".", ".."},
)
# The characters of a Pusher channel name; 200 (soketi's and Pusher's limit of a name)
# without the 15 of "private-client.".
CLIENT_ID: Final = Form(
    "the client id from dryAPI's dashboard, 1 to 185 letters, digits or any of -_=@,.;",
    "[-a-zA-Z0-9_=@,.;]{1,185}",
    is_private=True,
)
# Visible ASCII: what may follow "Bearer " in a header (RFC 9110, section 5.5).
API_TOKEN: Final = Form(
    "the API token of your dryAPI account, ASCII without spaces or line ends",
    r"[\x21-\x7e]+",
)
WEBHOOK_SECRETS: Final = Form(
    "one or several webhook secrets from dryAPI's dashboard, with spaces or line ends"
    " between them",
    accepts=_is_secret_list,
)
# The key is one segment of the path /app/KEY.
APP_KEY: Final = Form(
    "a Pusher app key: not empty, without spaces, '/', '?' and '#'",
    r"[^\s/?#]+",
    is_private=True,
)
HTTP_URL: Final = Form(
    "a URL that begins with https:// or http:// and names a host",
    "https?://[^/].*",
    _is_url,
)
WS_URL: Final = Form(
    "a URL that begins with wss:// or ws:// and names a host", "wss?://[^/].*", _is_url
)
HOST_PORT: Final = Form(
    "host:port, for instance 0.0.0.0:8080",
    ".+:[0-9]{1,5}",
    lambda text: bool(_ports([text])),
)
HOST_PORTS: Final = Form(
    "host:port, or several with commas between",
    accepts=lambda text: min(_ports(text.split(",")), default=0) > 0,
)
HOSTS: Final = Form(
    "names or addresses without ports, with commas between",
    # A port is never compared: what a browser adds is removed.
    accepts=lambda text: bool(_ports([f"{one.strip()}:80" for one in text.split(",")])),
)
# A file's content is often pasted in its path's place.
PEM_FILE: Final = Form("the path of a PEM file", is_private=True, is_file=True)
EXTENSIONS: Final = Form(
    "name=value, several with commas between; names of letters alone",
    accepts=_is_extension_list,
    is_private=True,
)
# It becomes part of a host name.
REGION: Final = Form(
    "the name of an AWS region, eu-west-1 for instance", "[a-z0-9]+(-[a-z0-9]+)+"
)
