"""
Keeps a client that lives long signing in with the password that the file holds now.

aiokafka 0.14 looks at its client's attribute when it connects, so that it is enough to
renew that: no batch fails for a rotation, and no producer is given up. Certificates and
tokens follow their files by themselves: see `security` and `tokens`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from typing import Any, Final

import structlog

from bridge.settings import KafkaSettings


__all__ = ["Credentials"]

_log = structlog.get_logger("bridge.kafka")

# As often as a producer does.
_LOOK_SECONDS: Final = 1.0


class Credentials:
    """
    The password that a client was made with, compared with the file's.

    Args:
        settings: How to sign in.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def follow(self, client: Any) -> None:
        """Have the next connection of an `AIOKafkaClient` made with today's."""
        secret = self._settings.sasl_password
        if secret is None:
            return
        password = secret.reveal()
        if password != client._sasl_plain_password:  # noqa: SLF001 - has no name
            client._sasl_plain_password = password  # noqa: SLF001
            _log.info("credentials.renewed", what="password")

    async def keep_following(self, client: Any) -> None:
        """Look again and again, for a client that only reads; until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.follow(client)
