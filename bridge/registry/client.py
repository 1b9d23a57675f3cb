"""
Asking a registry for a schema's id: the only module of this room that knows httpx.

It looks a schema up and registers it where that is allowed. What an answer means
stands in `answers`. It runs in the Kafka thread's loop and doesn't know which
library that is of: anyio's deadlines hold in any.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import quote

import anyio
import httpx  # noqa: TID251 - this is the module that may
import msgspec
import structlog

from bridge import __version__
from bridge.errors import ConfigError, RegistryUnreachableError
from bridge.registry.answers import Answer, Place, is_unknown, read_id, uncertified
from bridge.registry.schema import TopicSchema
from bridge.settings import SchemaRegistrySettings, require_regular


__all__ = ["RegistryClient"]

_log = structlog.get_logger("bridge.registry")

# A lookup's answer repeats the schema, which has some 6 KB. A login page in its
# place is not read to the end.
_MOST_BODY_BYTES: Final = 256 * 1024

_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class _Body(msgspec.Struct, rename="camel"):
    """What both requests carry."""

    schema_type: str
    schema: str


class RegistryClient:
    """
    Confluent's Schema Registry API, as far as a writer needs it.

    Args:
        settings: Where it is and how to ask it.

    Raises:
        ConfigError: The user name can't be sent.
    """

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        assert settings.url is not None
        if ":" in (settings.username or ""):
            raise ConfigError(
                "schema_registry.username (BRIDGE_SCHEMA_REGISTRY_USERNAME) has a"
                " colon, which basic authentication can't carry (RFC 7617)"
            )
        self._settings = settings
        self._url = settings.url.rstrip("/")

    async def schema_id(self, subject: str, schema: TopicSchema) -> int:
        """
        Give the id of a schema under a subject.

        Args:
            subject: Where it stands.
            schema: The schema.

        Raises:
            RegistryUnreachableError: No answer, or one that may be another soon.
            RegistryRefusedError: The registry doesn't have it and won't take it, or
                refuses to speak at all.
            ConfigError: The certificates to trust can't be used.
        """
        body = msgspec.json.encode(_Body("JSON", schema.text))
        path = f"subjects/{quote(subject, safe='')}"
        place = Place(self._url, subject, schema, self._settings)
        # Looked up first: that needs no right to write where the schema is there.
        found = await self._ask(path, body, place)
        if not (is_unknown(found) and self._settings.register):
            return read_id(found, place)
        registered = await self._ask(f"{path}/versions", body, place)
        schema_id = read_id(registered, place)
        _log.info("registry.registered", subject=subject, schema_id=schema_id)
        return schema_id

    async def _ask(self, path: str, body: bytes, place: Place) -> Answer:
        password = self._password()
        answer = await self._post(path, body, password, place)
        if answer.status == 401:
            # One that was exchanged meanwhile deserves a try of its own.
            renewed = self._password()
            if renewed != password:
                answer = await self._post(path, body, renewed, place)
        return answer

    def _password(self) -> str | None:
        secret = self._settings.password
        return None if secret is None else secret.reveal()

    async def _post(
        self, path: str, body: bytes, password: str | None, place: Place
    ) -> Answer:
        seconds = self._settings.timeout_seconds
        try:
            with anyio.fail_after(seconds):
                return await self._exchange(path, body, password)
        except TimeoutError as error:
            raise RegistryUnreachableError(
                f"the Schema Registry at {self._url} gave no answer within"
                f" {seconds:g} s (schema_registry.timeout_seconds)"
            ) from error
        except httpx.HTTPError as error:
            if (refusal := uncertified(error, place)) is not None:
                raise refusal from error
            reason = str(error) or type(error).__name__
            raise RegistryUnreachableError(
                f"the Schema Registry at {self._url} can't be asked: {reason}."
                " schema_registry.url (BRIDGE_SCHEMA_REGISTRY_URL) says where it is"
            ) from error

    async def _exchange(self, path: str, body: bytes, password: str | None) -> Answer:
        username = self._settings.username
        # One client for one request: requests are rare, and nothing stays open.
        # trust_env off: a proxy or .netrc of the environment must not meet the
        # password.
        async with (
            httpx.AsyncClient(
                verify=self._tls(),
                auth=None if username is None else (username, password or ""),
                timeout=None,  # noqa: S113 - the caller's scope is the timeout
                trust_env=False,
                follow_redirects=False,
            ) as client,
            client.stream(
                "POST",
                f"{self._url}/{path}",
                content=body,
                headers={
                    "Content-Type": _CONTENT_TYPE,
                    "Accept": f"{_CONTENT_TYPE}, application/json",
                    # What is compressed could be far larger than what is counted.
                    "Accept-Encoding": "identity",
                    "User-Agent": f"dryapi-kafka-bridge/{__version__}",
                },
            ) as response,
        ):
            received = bytearray()
            # Cancelled, not broken out of: httpx nests generators, and those that
            # are left half-way are not closed.
            with anyio.CancelScope() as reading:
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > _MOST_BODY_BYTES:
                        reading.cancel()
            return Answer(response.status_code, bytes(received))

    def _tls(self) -> ssl.SSLContext:
        """Read whom to trust, each time: certificates are exchanged too."""
        path = self._settings.ca_file
        try:
            if path is not None:
                require_regular(path)
            return ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                "schema_registry.ca_file (BRIDGE_SCHEMA_REGISTRY_CA_FILE):"
                f" {path} can't be used: {error.strerror or error}. Expected is a"
                " readable PEM file"
            ) from error
