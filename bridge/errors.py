"""
Every error that the bridge raises on purpose.

A docstring says what the code that catches the error does. Errors carry their data as
attributes, so that no caller parses a message. Errors of libraries are translated
where the library is called, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import ClassVar, Final


# Where people read the docs: neither wheel nor image contains them.
DOCS_URL: Final = "https://github.com/dryapi/kafka-bridge/blob/main/docs"


class ExitCode(IntEnum):
    """The process's exit code."""

    CLEAN = 0
    FAILED = 1
    USAGE = 2
    REFUSED_BY_DRYAPI = 3
    REFUSED_BY_KAFKA = 4


class DeadLetterReason(StrEnum):
    """Why an event isn't a record on `jobs`: header `bridge_reason` and a label."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_REQUEST_ID = "missing_request_id"
    UNKNOWN_STATUS = "unknown_status"
    INVALID_FIELD = "invalid_field"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    REFUSED_BY_BROKER = "refused_by_broker"
    AFTER_TERMINAL = "after_terminal"
    INVALID_PREVIEW = "invalid_preview"


@dataclass(eq=False, repr=False)
class BridgeError(Exception):
    """
    Base of all errors below: report its text, never a traceback.

    Attributes:
        message: What happened, without a period at its end.
        hint: What an operator can do about it, a sentence or two without the last
            period; empty where there is nothing to say.
        exit_code: The process's exit code if nothing handles the error.
    """

    message: str
    hint: str = field(default="", kw_only=True)
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __str__(self) -> str:
        """Give the message with the hint."""
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ConfigError(BridgeError):
    """A setting is missing or wrong: print the message and exit, never retry."""

    exit_code = ExitCode.USAGE


@dataclass(eq=False, repr=False, kw_only=True)
class ListenError(BridgeError):
    """
    A port of the bridge's own can't be opened: print the message and exit.

    Attributes:
        listen: The address as it was set.
    """

    exit_code = ExitCode.USAGE
    listen: str


class SessionError(BridgeError):
    """The Pusher session ended or could not start: see the subclass."""


@dataclass(eq=False, repr=False, kw_only=True)
class ConnectError(SessionError):
    """
    No connection could be made: back off and try again.

    Attributes:
        status: The HTTP status of a refused upgrade, if there was one.
    """

    status: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class ConnectionLostError(SessionError):
    """
    A connection ended: classify it by its code, back off and try again.

    Attributes:
        code: The WebSocket close code; None for an end without close frame.
    """

    code: int | None = None


class MessageTooLargeError(ConnectionLostError):
    """
    A message above 16 MiB ended the connection: as above.

    The message is lost, and so is everything until the next subscription.
    """


class ProtocolError(SessionError):
    """The server broke the protocol: drop the connection and try again."""


@dataclass(eq=False, repr=False, kw_only=True)
class RefusedError(SessionError):
    """
    DryAPI refuses for good: end a start that never worked, else retry slowly.

    Attributes:
        code: The Pusher code or HTTP status of the refusal.
    """

    exit_code = ExitCode.REFUSED_BY_DRYAPI
    code: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class AuthorizationError(SessionError):
    """
    The auth endpoint gave no signature: retry, unless `terminal`.

    Attributes:
        status: The HTTP status, if there was a response.
        retry_after_seconds: How long the endpoint asks to wait.
        terminal: Whether another try with the same token is pointless.
    """

    status: int | None = None
    retry_after_seconds: float | None = None
    terminal: bool = False


@dataclass(eq=False, repr=False, kw_only=True)
class InvalidEventError(BridgeError):
    """
    An event doesn't conform: send it to the dead letters, the session goes on.

    Attributes:
        reason: Why, from the closed vocabulary.
        original: The bytes of the event as they were received.
        request_id: The job, where one could be found.
    """

    reason: DeadLetterReason
    original: bytes
    request_id: str | None = None


class InvalidPreviewError(InvalidEventError):
    """A preview (`original`) can't be sent: its event is published without it."""


class InvalidAnswerError(BridgeError):
    """
    The status endpoint's response isn't valid: count it, the job is unchanged.

    The message names members and types, never contents.
    """


class LateEventError(BridgeError):
    """An event after its job's terminal record: a dead letter's header, not raised."""


class OutboxError(BridgeError):
    """The outbox can't be used: see the subclass."""


class OutboxDirectoryError(OutboxError):
    """The outbox directory can't be used: print the message and exit."""

    exit_code = ExitCode.USAGE


@dataclass(eq=False, repr=False, kw_only=True)
class OutboxLockedError(OutboxError):
    """
    Another process holds the outbox: print the message and exit.

    Attributes:
        pid: The holder's process id, if it could be read.
    """

    exit_code = ExitCode.USAGE
    pid: int | None = None


class OutboxFullError(OutboxError):
    """The disk or the limit of the outbox is reached: keep the batch, try again."""


class OutboxFormatError(OutboxError):
    """A file that is whole, but no outbox or a newer one: leave it alone, exit."""


class OutboxDamagedError(OutboxError):
    """
    The outbox file can't be read as an outbox: move it aside.

    Where that was tried already: print the message and exit.
    """


class KafkaError(BridgeError):
    """Kafka can't be used: see the subclass."""


class KafkaUnreachableError(KafkaError):
    """No broker answers: the bridge retries, a command that reads exits."""

    exit_code = ExitCode.REFUSED_BY_KAFKA


class KafkaRefusedError(KafkaError):
    """Kafka refuses for good (credentials, ACL, topic): end a first start."""

    exit_code = ExitCode.REFUSED_BY_KAFKA


class RegistryUnreachableError(KafkaUnreachableError):
    """The Schema Registry gives no usable response now: as above."""


class RegistryRefusedError(KafkaRefusedError):
    """The Schema Registry refuses for good (credentials, schema): as above."""


class RegistryUnknownSchemaError(RegistryRefusedError):
    """The Schema Registry doesn't have a schema: register it, or let the bridge."""


class KafkaFencedError(KafkaError):
    """Another bridge uses this outbox's transactional ids: print the message, exit."""
