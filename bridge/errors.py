"""
Every error that the bridge raises on purpose.

A docstring here says what whoever catches the error must do. Errors carry
their data as attributes, so that no caller parses a message. Errors of
libraries are translated where a library is spoken to and nowhere else.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


__all__ = [
    "AuthorizationError",
    "BridgeError",
    "ConfigError",
    "ConnectError",
    "ConnectionLostError",
    "DeadLetterReason",
    "ExitCode",
    "InvalidAnswerError",
    "InvalidEventError",
    "InvalidPreviewError",
    "KafkaError",
    "KafkaFencedError",
    "KafkaRefusedError",
    "KafkaUnreachableError",
    "LateEventError",
    "ListenError",
    "MessageTooLargeError",
    "OutboxDamagedError",
    "OutboxDirectoryError",
    "OutboxError",
    "OutboxFormatError",
    "OutboxFullError",
    "OutboxLockedError",
    "ProtocolError",
    "RefusedError",
    "RegistryRefusedError",
    "RegistryUnknownSchemaError",
    "RegistryUnreachableError",
    "SessionError",
]


class ExitCode(IntEnum):
    """What the process tells its parent when it ends."""

    CLEAN = 0
    FAILED = 1
    USAGE = 2
    REFUSED_BY_DRYAPI = 3
    REFUSED_BY_KAFKA = 4


class DeadLetterReason(StrEnum):
    """Why an event is no record on `jobs`: header `bridge_reason` and a label."""

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


class BridgeError(Exception):
    """
    Base of all errors below: report its message, never a traceback.

    Attributes:
        exit_code: What the process exits with if nobody handles the error.
    """

    exit_code: ExitCode = ExitCode.FAILED


class ConfigError(BridgeError):
    """A setting is missing or wrong: print the message and exit, never retry."""

    exit_code = ExitCode.USAGE


class ListenError(BridgeError):
    """
    A port of the bridge's own can't be opened: say so and exit.

    Attributes:
        listen: The address as it was set.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, listen: str) -> None:
        super().__init__(message)
        self.listen = listen


class SessionError(BridgeError):
    """The Pusher session ended or could not begin: see the subclass."""


class ConnectError(SessionError):
    """
    No connection came about: back off and try again.

    Attributes:
        status: The HTTP status of a refused upgrade, if there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLostError(SessionError):
    """
    A connection ended: judge it by its code, back off and try again.

    Attributes:
        code: The WebSocket close code; None for an end without close frame.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MessageTooLargeError(ConnectionLostError):
    """
    A message above `pusher.max_message_bytes` ended the connection: as above.

    The message is lost, and whatever comes until the next subscription.
    """


class ProtocolError(SessionError):
    """The server broke the protocol: drop the connection and try again."""


class RefusedError(SessionError):
    """
    DryAPI refuses for good: end a start that never worked, else retry slowly.

    Attributes:
        code: The Pusher code or HTTP status that said so.
    """

    exit_code = ExitCode.REFUSED_BY_DRYAPI

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class AuthorizationError(SessionError):
    """
    The auth endpoint gave no signature: retry, unless `terminal`.

    Attributes:
        status: The HTTP status, if an answer came.
        retry_after_seconds: How long the endpoint asks to wait.
        terminal: Whether another try with the same token is pointless.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        terminal: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.terminal = terminal


class InvalidEventError(BridgeError):
    """
    An event doesn't conform: send it to the dead letters, the session lives.

    Attributes:
        reason: The closed vocabulary's word for it.
        original: The bytes of the event as they came.
        request_id: The job, where one could be found.
    """

    def __init__(
        self,
        reason: DeadLetterReason,
        message: str,
        *,
        original: bytes,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.original = original
        self.request_id = request_id


class InvalidPreviewError(InvalidEventError):
    """
    A preview alone can't go to its topic: its event goes out without it.

    `original` is the preview's text.
    """


class InvalidAnswerError(BridgeError):
    """
    An answer of the status endpoint isn't one: count it, the job stays as it was.

    The message names members and types, never contents.
    """


class LateEventError(BridgeError):
    """
    An event comes after its job's last record: send it to the dead letters.

    It is named there and never raised: who finds it goes on with the next record.
    """


class OutboxError(BridgeError):
    """The outbox can't be used: see the subclass."""


class OutboxDirectoryError(OutboxError):
    """The outbox directory can't be used: say so and exit."""

    exit_code = ExitCode.USAGE


class OutboxLockedError(OutboxError):
    """
    Another process holds the outbox: say which one and exit.

    Attributes:
        pid: The holder's process id, if it could be read.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class OutboxFullError(OutboxError):
    """The disk or the limit of the outbox is reached: keep the batch, try again."""


class OutboxFormatError(OutboxError):
    """A file that is whole, but no outbox or a newer one: leave it alone, exit."""


class OutboxDamagedError(OutboxError):
    """
    The outbox file can't be read as what it should be: set it aside.

    Where that has been tried already: say so and exit.
    """


class KafkaError(BridgeError):
    """Kafka can't be used: see the subclass."""


class KafkaUnreachableError(KafkaError):
    """No broker answers: retry; at a start with nothing to keep, exit."""

    exit_code = ExitCode.REFUSED_BY_KAFKA


class KafkaRefusedError(KafkaError):
    """Kafka refuses for good (credentials, ACL, topic): end a first start."""

    exit_code = ExitCode.REFUSED_BY_KAFKA


class RegistryUnreachableError(KafkaUnreachableError):
    """The Schema Registry gives no answer that helps now: as above."""


class RegistryRefusedError(KafkaRefusedError):
    """The Schema Registry refuses for good (credentials, schema): as above."""


class RegistryUnknownSchemaError(RegistryRefusedError):
    """The Schema Registry doesn't have a schema: register it, or let the bridge."""


class KafkaFencedError(KafkaError):
    """Another bridge writes with this outbox's transactional ids: say so and exit."""
