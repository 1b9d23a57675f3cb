"""
The Schema Registry: what is written before a topic's values, Confluent's wire format.

A schema is looked up, and registered where the settings allow it, each time that its
topic is opened.
"""

from __future__ import annotations

import struct
from typing import Final
from urllib.parse import quote

import msgspec
import structlog

from bridge.errors import (
    ConfigError,
    KafkaError,
    RegistryRefusedError,
    RegistryUnknownSchemaError,
    RegistryUnreachableError,
)
from bridge.http.post import NoResponseError, basic_credentials, post
from bridge.kafka.security import authorities
from bridge.schemas.json_schema import SCHEMAS, text_of
from bridge.settings import Settings
from bridge.text import printable


__all__ = ["SchemaRegistry"]

_log = structlog.get_logger("bridge.registry")

# Confluent's wire format for JSON Schema: one byte 0, then the schema's id as four
# bytes, the highest first.
_PREFIX: Final = struct.Struct(">BI")
_LARGEST_ID: Final = 2**32 - 1

# One small answer; as long as connecting to dryAPI may take.
_TIMEOUT_SECONDS: Final = 10.0

# A lookup's response repeats the schema, which has some 6 KB. A login page in its
# place is not read to its end.
_MAX_BODY_BYTES: Final = 256 * 1024

# The message about an incompatible schema holds both schemas; the log needs a line.
_MAX_MESSAGE_CHARACTERS: Final = 300

_URL: Final = "schema_registry.url (BRIDGE_SCHEMA_REGISTRY_URL)"

_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"

# Confluent's error codes (https://docs.confluent.io/platform/current/schema-registry/
# develop/api.html): no such subject, no such schema under it.
_UNKNOWN: Final = frozenset({40401, 40403})

# Request Timeout, Too Early, Too Many Requests: another try may succeed.
_TEMPORARY: Final = frozenset({408, 425, 429})


class _Response(msgspec.Struct):
    """What is read of a response; defaults where it isn't JSON."""

    id: int = -1
    error_code: int = 0
    message: str = ""
    status: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether the registry doesn't have the schema."""
        return self.status == 404 and self.error_code in _UNKNOWN


class SchemaRegistry:
    """
    Schema ids from Confluent's Schema Registry API.

    A registry that is away when a topic is opened again stops nothing: an id never
    comes to mean another schema.

    Args:
        settings: All settings; `schema_registry.url` is set.
        timeout_seconds: The longest time of one request.

    Raises:
        ConfigError: The user name can't be sent.
    """

    def __init__(
        self, settings: Settings, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> None:
        own = settings.schema_registry
        assert own.url is not None
        if ":" in (own.username or ""):
            raise ConfigError(
                "schema_registry.username (BRIDGE_SCHEMA_REGISTRY_USERNAME) has a"
                " colon, which basic authentication can't carry (RFC 7617)"
            )
        self._settings = own
        self._timeout_seconds = timeout_seconds
        self._url = own.url.rstrip("/")
        self._at = f"the Schema Registry at {self._url}"
        self._schemas = {settings.topic: "job-status", settings.gap_topic: "gap"}
        self._ids: dict[str, int] = {}

    async def prefix(self, topic: str) -> bytes:
        """
        Return the bytes before each value of a topic; empty if it has no schema.

        Args:
            topic: The topic.

        Raises:
            RegistryUnreachableError: There is no id now: ask again.
            RegistryRefusedError: There is none until the registry or a setting changes.
            ConfigError: The certificates to trust can't be used.
        """
        name = self._schemas.get(topic)
        if name is None:
            return b""
        subject = self._subject(topic, name)
        known = self._ids.get(topic)
        try:
            schema_id = await self._schema_id(subject, name)
        except RegistryUnreachableError as error:
            if known is None:
                raise
            schema_id = known
            _log.warning(
                "registry.id_kept",
                topic=topic,
                subject=subject,
                schema_id=known,
                error=str(error),
            )
        if schema_id != known:
            self._ids[topic] = schema_id
            _log.info(
                "registry.schema", topic=topic, subject=subject, schema_id=schema_id
            )
        return _PREFIX.pack(0, schema_id)

    def _subject(self, topic: str, name: str) -> str:
        """Name the subject as Confluent's serializers do: a title names a record."""
        title = str(SCHEMAS[name]["title"])
        naming = self._settings.subject_naming
        subjects = {"topic": f"{topic}-value", "record": title}
        return subjects.get(naming, f"{topic}-{title}")

    async def _schema_id(self, subject: str, name: str) -> int:
        body = msgspec.json.encode({"schemaType": "JSON", "schema": text_of(name)})
        path = f"subjects/{quote(subject, safe='')}"
        # Looked up first: where the schema is there, no right to write is needed.
        response = await self._request(path, body)
        if response.is_unknown and self._settings.register:
            response = await self._request(f"{path}/versions", body)
            if response.status == 200:
                _log.info(
                    "registry.registered",
                    subject=subject,
                    schema_id=response.id,
                )
        if response.status == 200 and 0 <= response.id <= _LARGEST_ID:
            return response.id
        raise self._failure(response, subject, f"{name}.schema.json")

    # -- One request ------------------------------------------------------------------

    async def _request(self, path: str, body: bytes) -> _Response:
        secret = self._settings.password
        password = "" if secret is None else secret.reveal()
        response = await self._post(path, body, password)
        # The password may have been replaced in the meantime.
        if response.status == 401 and secret and secret.reveal() != password:
            response = await self._post(path, body, secret.reveal())
        return response

    async def _post(self, path: str, body: bytes, password: str) -> _Response:
        settings = self._settings
        headers = {
            "Content-Type": _CONTENT_TYPE,
            "Accept": f"{_CONTENT_TYPE}, application/json",
        }
        credentials = ""
        if settings.username is not None:
            credentials = basic_credentials(settings.username, password)
            headers["Authorization"] = f"Basic {credentials}"
        try:
            status, received = await post(
                f"{self._url}/{path}",
                body,
                headers,
                # Read each time: certificates are replaced too.
                tls=authorities("schema_registry.ca_file", settings.ca_file),
                timeout_seconds=self._timeout_seconds,
                max_bytes=_MAX_BODY_BYTES,
            )
        except NoResponseError as error:
            if error.certificate is not None:
                raise RegistryRefusedError(
                    f"{self._at} has a certificate that isn't trusted:"
                    f" {error.certificate}",
                    hint="For a private CA set schema_registry.ca_file"
                    " (BRIDGE_SCHEMA_REGISTRY_CA_FILE)",
                ) from error
            raise RegistryUnreachableError(
                f"{self._at} {error}",
                hint=f"Check {_URL}",
            ) from error
        try:
            response = msgspec.json.decode(received, type=_Response)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            response = _Response()
        # A registry may repeat the header that it refuses.
        for secret in filter(None, (credentials, password)):
            response.message = response.message.replace(secret, "***")
        response.status = status
        return response

    # -- What a response means --------------------------------------------------------

    def _failure(self, response: _Response, subject: str, file: str) -> KafkaError:
        settings, status = self._settings, response.status
        message = printable(response.message, _MAX_MESSAGE_CHARACTERS).rstrip(". ")
        quoted = f". It says: {message}" if message else ""
        if response.is_unknown:
            return self._unknown_schema(subject, file)
        if status in {401, 403}:
            who = f"user {settings.username!r}" if settings.username else "no user name"
            return RegistryRefusedError(
                f"{self._at} refuses access with {who} (HTTP {status}) to subject"
                f" {subject}{quoted}",
                hint="Check schema_registry.username"
                " (BRIDGE_SCHEMA_REGISTRY_USERNAME), schema_registry.password"
                " (BRIDGE_SCHEMA_REGISTRY_PASSWORD, _PASSWORD_FILE) and this user's"
                " permissions",
            )
        if status == 409:
            return RegistryRefusedError(
                f"{self._at} refuses {file} as a new version of subject {subject} (HTTP"
                f" 409): it isn't compatible with those before{quoted}",
                hint="If the subject belongs to another program, choose another"
                " schema_registry.subject_naming"
                " (BRIDGE_SCHEMA_REGISTRY_SUBJECT_NAMING)",
            )
        if status == 422:
            return RegistryRefusedError(
                f"{self._at} doesn't accept {file} as a valid schema (HTTP 422)"
                f"{quoted}",
                hint="It must support JSON Schema draft 2020-12",
            )
        if status >= 500 or status in _TEMPORARY:
            return RegistryUnreachableError(
                f"{self._at} can't answer now (HTTP {status}){quoted}",
                hint=f"Check {_URL}",
            )
        return RegistryRefusedError(
            f"{self._at} (HTTP {status}) doesn't speak Confluent's Schema Registry API"
            f"{quoted}",
            hint=f"{_URL} is the address before /subjects, for Apicurio Registry"
            " .../apis/ccompat/v7",
        )

    def _unknown_schema(self, subject: str, file: str) -> RegistryUnknownSchemaError:
        username = self._settings.username
        user = "" if username is None else f" -u {username}"
        url = f"{self._url}/subjects/{quote(subject, safe='')}/versions"
        return RegistryUnknownSchemaError(
            f"{self._at} has no schema under subject {subject} that is schemas/{file}",
            hint="Register it, for instance with:"
            f" jq -Rs '{{schemaType: \"JSON\", schema: .}}' schemas/{file} |"
            f" curl{user} --json @- {url}"
            " -- or let the bridge do it with schema_registry.register"
            " (BRIDGE_SCHEMA_REGISTRY_REGISTER=true)",
        )
