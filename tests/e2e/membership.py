"""
Several accounts of one dryAPI: what it grants them, and what the bridge knows.

Owns the tokens on both sides and the files from which the bridge reads its own.
What becomes of who is refused is for the tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.auth_endpoint import AuthRequest, Reply, signing
from tests.e2e.scene import Account
from tests.kit.publisher import Soketi


__all__ = ["Membership"]

# Laravel's answers, as dryAPI's would be.
_UNKNOWN = Reply(401, b'{"message":"Unauthenticated."}')
_FOREIGN = Reply(403, b'{"message":"Forbidden."}')


class Membership:
    """
    Accounts that all are known at first, and a bridge that knows all their tokens.

    Args:
        soketi: Whose subscriptions are signed.
        folder: For the bridge's files.
        accounts: The accounts.

    Attributes:
        accounts: The accounts.
        config: The bridge's TOML file, that lists them.
    """

    def __init__(
        self, soketi: Soketi, folder: Path, accounts: Sequence[Account]
    ) -> None:
        self.accounts = accounts
        self._sign = signing(soketi)
        self._folder = folder
        self._channels = {account.token: account.channel for account in accounts}
        for account in accounts:
            self.tell(account, account.token)
        self.config = folder / "bridge.toml"
        self.config.write_text("\n".join(map(self._entry, accounts)))

    def _entry(self, account: Account) -> str:
        return (
            f"[[accounts]]\nclient_id = {json.dumps(account.client_id)}\n"
            f"api_token_file = {json.dumps(str(self.token_file(account)))}\n"
        )

    # -- The bridge's side ----------------------------------------------------

    def token_file(self, account: Account) -> Path:
        """Tell where the bridge reads an account's token."""
        return self._folder / f"{account.client_id}.token"

    def tell(self, account: Account, token: str) -> None:
        """Write a token, right or wrong, into the bridge's file."""
        file = self.token_file(account)
        # As a rotation does it: never half a token.
        fresh = file.with_suffix(".new")
        fresh.write_text(token)
        fresh.rename(file)

    # -- dryAPI's side --------------------------------------------------------

    def revoke(self, account: Account) -> None:
        """Know an account's token no more."""
        self._channels.pop(account.token, None)

    def admit(self, account: Account, token: str) -> None:
        """Give an account another token."""
        self._channels[token] = account.channel

    def answer(self, request: AuthRequest) -> Reply:
        """Answer the bridge's request: an `AuthEndpoint` calls it."""
        token = request.authorization.removeprefix("Bearer ")
        channel = self._channels.get(token)
        if channel is None:
            return _UNKNOWN
        return self._sign(request) if channel == request.channel else _FOREIGN
