"""
How a setting is declared, and what its text must look like.

Help, messages, documentation and the chart's schema are made from this.
"""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import MISSING, field
from typing import Any, Final

import msgspec

from bridge.settings.secret import Secret


__all__ = [
    "API_TOKEN",
    "APP_KEY",
    "CLIENT_ID",
    "ENVIRONMENT_PREFIX",
    "EXTENSIONS",
    "HOSTS",
    "HOST_PORT",
    "HOST_PORTS",
    "HTTP_URL",
    "PEM_FILE",
    "PRIVATE_TEXT",
    "REGION",
    "TOPIC",
    "WEBHOOK_SECRETS",
    "WS_URL",
    "Form",
    "Setting",
    "setting",
    "split_address",
    "split_extensions",
]

ENVIRONMENT_PREFIX: Final = "BRIDGE_"

# A port is 16 bits wide (RFC 9293, section 3.1); 0 asks the system for a free one.
_LARGEST_PORT: Final = 65_535

_SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


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
    accepts: Callable[[str], bool] = bool
    is_private: bool = False
    is_file: bool = False

    def fits(self, text: str) -> bool:
        """Whether a text has this form."""
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return False
        return self.accepts(text)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting, without its value. `setting` declares it; the list adds the rest.

    Attributes:
        description: What it is, without a full stop.
        form: What its text must look like.
        default: The default; None for none, or one that depends on the machine.
        because: Where the default comes from.
        default_words: The default in words, where its value says little.
        flags: Its flags on the command line; the first is the one in messages.
        required: Whether the bridge can't run without it.
        minimum: The least value.
        exclusive_minimum: What the value must be above.
        maximum: The largest value.
        path: Its path in TOML, parts joined by dots.
        type: What `msgspec.convert` makes of a value.
        optional: Whether it may be left without a value.
        choices: The only values, if it has such.
        account: The position in `[[accounts]]` of the account that it belongs to, from
            1; None for a setting outside that list.
    """

    description: str
    form: Form | None = None
    default: str | float | bool | None = None
    because: str | None = None
    default_words: str | None = None
    flags: tuple[str, ...] = ()
    required: bool = False
    minimum: float | None = None
    exclusive_minimum: float | None = None
    maximum: float | None = None
    path: str = ""
    type: Any = None
    optional: bool = False
    choices: tuple[str, ...] = ()
    account: int | None = None

    @property
    def name(self) -> str:
        """Its name without its section."""
        return self.path.rpartition(".")[2]

    @property
    def section(self) -> str:
        """Its section, or nothing."""
        return self.path.rpartition(".")[0]

    @property
    def unit(self) -> str | None:
        """`seconds`, `ms`, `bytes` or None."""
        ending = self.path.rpartition("_")[2]
        return ending if ending in {"seconds", "ms", "bytes"} else None

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.type is Secret

    @property
    def is_number(self) -> bool:
        """Whether its value is a number."""
        return self.type in {int, float}

    @property
    def expected(self) -> str:
        """What a value must be; follows "must be"."""
        if self.form is not None:
            return self.form.expected
        if self.type is bool:
            return "true or false"
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        if not self.is_number:
            characters = "" if self.is_secret else ", without control characters"
            return f"text that is not empty{characters}"
        words = "a whole number" if self.type is int else "a number"
        if self.unit is not None:
            words += f" of {'milliseconds' if self.unit == 'ms' else self.unit}"
        if self.exclusive_minimum is not None:
            words += f" above {self.exclusive_minimum:g}"
        elif self.minimum is not None and self.maximum is not None:
            return f"{words} from {self.minimum:.0f} to {self.maximum:.0f}"
        elif self.minimum is not None:
            words += f", {self.minimum:.0f} or more"
        return words if self.maximum is None else f"{words}, {self.maximum:.0f} at most"

    def is_within(self, number: float) -> bool:
        """Whether a number is finite and within the limits."""
        return (
            math.isfinite(number)
            and (self.minimum is None or number >= self.minimum)
            and (self.exclusive_minimum is None or number > self.exclusive_minimum)
            and (self.maximum is None or number <= self.maximum)
        )

    def in_words(self, value: Any) -> str:
        """Write a value that isn't secret as help, pages and tables show it."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value)

    def size_in_words(self, value: Any) -> str:
        """Write a number of bytes in the largest unit that it is a multiple of."""
        if self.unit == "bytes":
            for factor, unit in _SIZES:
                if value and value % factor == 0:
                    return f" ({value // factor} {unit})"
        return ""

    @property
    def default_text(self) -> str:
        """The default in words."""
        return self.default_words or self.in_words(self.default)

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment variable, and for a secret the one that names a file."""
        if self.account:
            return ()
        name = ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()
        return (name, f"{name}_FILE") if self.is_secret else (name,)

    @property
    def keys(self) -> tuple[str, ...]:
        """Its path in TOML, and for a secret the one that names a file."""
        return (self.path, f"{self.path}_file") if self.is_secret else (self.path,)

    @property
    def title(self) -> str:
        """All its names, as messages begin with them."""
        if self.account:
            return f"{self.path} (number {self.account} of [[accounts]])"
        names = " or ".join(self.variables)
        return f"{self.path} ({', '.join([names, *self.flags[:1]])})"


def setting(
    description: str,
    form: Form | None = None,
    *,
    default: Any = None,
    default_factory: Any = MISSING,
    **facts: Any,
) -> Any:
    """
    Declare a setting: a field of a dataclass, with what its type can't say.

    Args:
        description: What it is, without a full stop.
        form: What its text must look like.
        default: The default; None for none.
        default_factory: Makes a default that depends on the machine.
        facts: Other attributes of `Setting`.
    """
    declared = Setting(
        description=description,
        form=form,
        default=None if default is MISSING else default,
        **facts,
    )
    metadata = {"setting": declared}
    if default_factory is not MISSING:
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
# A password is sometimes put in a name's place.
PRIVATE_TEXT: Final = Form(
    "text that is not empty, without control characters", is_private=True
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
