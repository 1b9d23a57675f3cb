"""
What an account is: as the TOML file lists several, and as the service takes each.

Which accounts there are, and whether what the file says of them is right, is
found in `listing`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from bridge.settings.about import (
    API_TOKEN_EXPECTED,
    CLIENT_ID_EXPECTED,
    ClientId,
    Section,
    about,
)
from bridge.settings.healing import WEBHOOK_SECRET_EXPECTED
from bridge.settings.secret import Secret


__all__ = ["Account", "AccountSettings"]


class Account(msgspec.Struct, frozen=True):
    """
    An account that a session belongs to.

    Attributes:
        client_id: Its name; its channel is `private-client.{client_id}`.
        api_token: What signs in to it.
        webhook_secret: What its webhooks are signed with, one or several; None if the
            bridge takes none of it.
    """

    client_id: str
    api_token: Secret
    webhook_secret: Secret | None = None


class AccountSettings(Section, frozen=True):
    """One of several accounts; instead of the one client_id and its api_token."""

    client_id: Annotated[
        ClientId,
        about(
            "The account's dryAPI client id, unlike that of any other account here",
            expected=CLIENT_ID_EXPECTED,
            required=True,
        ),
    ]
    api_token: Annotated[
        Secret,
        about(
            "The account's dryAPI API token",
            expected=API_TOKEN_EXPECTED,
            required=True,
        ),
    ]
    webhook_secret: Annotated[
        Secret | None,
        about(
            "The account's webhook secret; several of them during a rotation",
            expected=WEBHOOK_SECRET_EXPECTED,
        ),
    ] = None
