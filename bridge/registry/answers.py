"""
What a registry's answers mean: an id, or which error says what to do.

It does no input or output. The registry's own words go into an error where they
help; a secret never does.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import quote

import msgspec

from bridge.errors import (
    KafkaError,
    RegistryRefusedError,
    RegistryUnknownSchemaError,
    RegistryUnreachableError,
)
from bridge.registry.schema import TopicSchema
from bridge.settings import SchemaRegistrySettings


__all__ = ["Answer", "Place", "is_unknown", "read_id", "uncertified"]

# Confluent's error codes, https://docs.confluent.io/platform/current/schema-registry/
# develop/api.html: no such subject, no such schema under it.
_UNKNOWN: Final = frozenset({40401, 40403})

# A registry behind a gateway that is busy, or one that has no leader: these pass.
_PASSING: Final = frozenset({408, 425, 429})

# What the wire format's four bytes hold.
_LARGEST_ID: Final = 2**32 - 1

# An incompatible change is told with both schemas; a line of a log is enough.
_MOST_WORDS: Final = 300


class Answer(msgspec.Struct, frozen=True):
    """
    One answer.

    Attributes:
        status: The HTTP status.
        body: What came, or the first part of too much.
    """

    status: int
    body: bytes


class Place(msgspec.Struct, frozen=True):
    """
    What was asked for, and where.

    Attributes:
        url: The registry.
        subject: The subject.
        schema: The schema.
        settings: How it was asked.
    """

    url: str
    subject: str
    schema: TopicSchema
    settings: SchemaRegistrySettings


class _Found(msgspec.Struct):
    """A schema's place in the registry."""

    id: int


class _Failure(msgspec.Struct):
    """What a registry says of a request that it doesn't fulfil."""

    error_code: int
    message: str = ""


def is_unknown(answer: Answer) -> bool:
    """Whether a registry says that it doesn't have the schema under the subject."""
    failure = _failure(answer)
    return (
        answer.status == 404 and failure is not None and failure.error_code in _UNKNOWN
    )


def read_id(answer: Answer, place: Place) -> int:
    """
    Read the schema's id.

    Raises:
        RegistryUnreachableError: The same request may be answered otherwise soon.
        RegistryRefusedError: Not until somebody changes something.
    """
    if answer.status != 200:
        raise _error(answer, place)
    try:
        schema_id = msgspec.json.decode(answer.body, type=_Found).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without the cause, which may quote the body.
        raise _foreign(answer, place) from None
    if not 0 <= schema_id <= _LARGEST_ID:
        raise _foreign(answer, place)
    return schema_id


def uncertified(error: BaseException, place: Place) -> RegistryRefusedError | None:
    """Give the error for a certificate that isn't trusted, if that is the reason."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return RegistryRefusedError(
        f"the Schema Registry at {place.url} has a certificate that isn't trusted:"
        f" {cause.verify_message}. schema_registry.ca_file"
        " (BRIDGE_SCHEMA_REGISTRY_CA_FILE) names the certificates to trust"
    )


def _error(answer: Answer, place: Place) -> KafkaError:
    status = answer.status
    if is_unknown(answer):
        return _unregistered(place)
    at = f"the Schema Registry at {place.url}"
    if status in {401, 403}:
        return RegistryRefusedError(
            f"{at} refuses {_who(place)} (HTTP {status}) for subject"
            f" {place.subject}: look at schema_registry.username"
            " (BRIDGE_SCHEMA_REGISTRY_USERNAME), schema_registry.password"
            " (BRIDGE_SCHEMA_REGISTRY_PASSWORD, _PASSWORD_FILE) and what this user may"
            f" do{_words(answer, place)}"
        )
    if status == 409:
        return RegistryRefusedError(
            f"{at} refuses {place.schema.file_name} as a new version of subject"
            f" {place.subject} (HTTP 409): it isn't compatible with those before. Is"
            " the subject somebody else's? schema_registry.subject_naming"
            f" (BRIDGE_SCHEMA_REGISTRY_SUBJECT_NAMING) says how it is called"
            f"{_words(answer, place)}"
        )
    if status == 422:
        return RegistryRefusedError(
            f"{at} takes {place.schema.file_name} for no valid schema (HTTP 422): it"
            f" must know JSON Schema draft 2020-12{_words(answer, place)}"
        )
    if status >= 500 or status in _PASSING:
        return RegistryUnreachableError(
            f"{at} can't answer now (HTTP {status}){_words(answer, place)}"
        )
    return _foreign(answer, place)


def _unregistered(place: Place) -> RegistryUnknownSchemaError:
    file = f"schemas/{place.schema.file_name}"
    user = "" if place.settings.username is None else f" -u {place.settings.username}"
    subject = quote(place.subject, safe="")
    return RegistryUnknownSchemaError(
        f"the Schema Registry at {place.url} has no schema under subject"
        f" {place.subject} that is {file}. Register it, for instance with:"
        f" jq -Rs '{{schemaType: \"JSON\", schema: .}}' {file} |"
        f" curl{user} --json @- {place.url}/subjects/{subject}/versions"
        " -- or let the bridge do it with schema_registry.register"
        " (BRIDGE_SCHEMA_REGISTRY_REGISTER=true)"
    )


def _foreign(answer: Answer, place: Place) -> RegistryRefusedError:
    return RegistryRefusedError(
        f"what answers at {place.url} (HTTP {answer.status}) doesn't speak Confluent's"
        " Schema Registry API: schema_registry.url (BRIDGE_SCHEMA_REGISTRY_URL) is"
        " where /subjects begins, for Apicurio Registry .../apis/ccompat/v7"
        f"{_words(answer, place)}"
    )


def _who(place: Place) -> str:
    name = place.settings.username
    return "to speak without a user name" if name is None else f"user {name!r}"


def _failure(answer: Answer) -> _Failure | None:
    try:
        return msgspec.json.decode(answer.body, type=_Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _words(answer: Answer, place: Place) -> str:
    """Quote the registry's own words, without anything that must not be seen."""
    failure = _failure(answer)
    if failure is None or not failure.message:
        return ""
    text = failure.message
    if place.settings.password is not None:
        text = text.replace(place.settings.password.reveal(), "***")
    text = "".join(c if c.isprintable() else " " for c in text[:_MOST_WORDS])
    return f". It says: {text}"
