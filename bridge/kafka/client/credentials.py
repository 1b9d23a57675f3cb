"""
Keeps a client that lives long signing in with what the files hold now.

A password or a certificate is exchanged while connections stand. Those go on; the next
one must be made with what is new. aiokafka 0.14 looks at its client's attributes when
it connects, so that it is enough to renew these: no batch fails for a rotation, and
no producer is given up.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from typing import Any, Final

import structlog

from bridge.errors import ConfigError
from bridge.kafka.client.tls import tls_context, tls_files
from bridge.settings import KafkaSettings


__all__ = ["Credentials"]

_log = structlog.get_logger("bridge.kafka")

# As often as a producer does.
_LOOK_SECONDS: Final = 1.0


class Credentials:
    """
    What a client was made with, to be compared with the files again and again.

    Tokens are fetched for each connection anyway: see `tokens`.

    Args:
        settings: How to sign in. It is made before the client, so that what changes
            meanwhile is not missed.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._files = tls_files(settings)
        self._told: str | None = None

    def follow(self, client: Any) -> None:
        """
        Have the next connection made with what the files hold now.

        Some microseconds where nothing has changed. Files that don't fit each other
        yet, because one was exchanged and the other is about to be, leave the client
        as it is; they are looked at again with the next call.

        Args:
            client: The `AIOKafkaClient` (0.14).
        """
        self._follow_password(client)
        files = tls_files(self._settings)
        context = client._ssl_context  # noqa: SLF001 - has no public name
        if context is None or files == self._files:
            return
        try:
            context = tls_context(self._settings)
        except ConfigError as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning("credentials.invalid", error=self._told)
            return
        self._files, self._told = files, None
        client._ssl_context = context  # noqa: SLF001
        _log.info("credentials.renewed", what="certificates")

    async def keep_following(self, client: Any) -> None:
        """Look again and again, for a client that only reads; until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.follow(client)

    def _follow_password(self, client: Any) -> None:
        secret = self._settings.sasl_password
        if secret is None:
            return
        password = secret.reveal()
        if password != client._sasl_plain_password:  # noqa: SLF001
            client._sasl_plain_password = password  # noqa: SLF001
            _log.info("credentials.renewed", what="password")
