"""
How a setting's field describes itself, and the types that fields share.

What a field says through `about` is all that help, documentation and schema
know of it. No setting is declared here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta


__all__ = [
    "API_TOKEN_EXPECTED",
    "CLIENT_ID_EXPECTED",
    "GIB",
    "KIB",
    "LARGEST_INT16",
    "LARGEST_INT32",
    "MIB",
    "TOPIC_EXPECTED",
    "AppKey",
    "ClientId",
    "Section",
    "TopicName",
    "about",
]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

LARGEST_INT16 = 2**15 - 1
LARGEST_INT32 = 2**31 - 1


def about(  # noqa: PLR0913 - one keyword for each thing a setting may say
    description: str,
    *,
    because: str | None = None,
    expected: str | None = None,
    default_text: str | None = None,
    flag: str | None = None,
    required: bool = False,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Meta:
    """
    Describe a field.

    Args:
        description: What it is, a sentence without a full stop.
        because: Where the default comes from.
        expected: What a value must be, to follow "must be"; made from the type
            where it is left out.
        default_text: The default in words where the value itself says little.
        flag: Its flag on the command line.
        required: Whether the service can't run without it.
        gt: The value is greater than this.
        ge: The value is at least this.
        le: The value is at most this.
    """
    extra: dict[str, Any] = {
        "because": because,
        "expected": expected,
        "default_text": default_text,
        "flag": flag,
        "required": required,
    }
    limits: dict[str, Any] = {"gt": gt, "ge": ge, "le": le}
    meta: Meta = Meta(description=description, extra=extra, **limits)
    return meta


# Kafka's Topic.validate: 1 to 249 of these characters, neither "." nor "..".
# `$(?!\n)` because Python's `$` alone would let a line end through.
TopicName = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}$(?!\n)")]
# The characters of a Pusher channel name; 200 (soketi's and Pusher's limit of
# a name) without the 15 of "private-client.".
ClientId = Annotated[str, Meta(pattern=r"^[-a-zA-Z0-9_=@,.;]{1,185}$(?!\n)")]
# The key is one segment of the path /app/KEY.
AppKey = Annotated[str, Meta(pattern=r"^[^\s/?#]+$(?!\n)")]

TOPIC_EXPECTED = (
    "a Kafka topic's name: 1 to 249 letters, digits, dots, underscores or hyphens,"
    " and neither '.' nor '..'"
)
CLIENT_ID_EXPECTED = (
    "the client id from dryAPI's dashboard, 1 to 185 letters, digits or any of -_=@,.;"
)
API_TOKEN_EXPECTED = (
    "the API token of your dryAPI account, ASCII without spaces or line ends"  # noqa: S105 - words
)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all groups of settings have in common."""
