"""
What brokers answer to a producer, in the bridge's terms.

Codes: https://kafka.apache.org/protocol#protocol_error_codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from aiokafka import errors

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError


__all__ = [
    "REFUSALS",
    "BatchRefusedError",
    "ClientError",
    "causes",
    "error_type",
    "forbidden",
    "is_fenced",
    "no_producer",
]

ClientError: TypeAlias = errors.KafkaError

# What says for certain that this record will never be taken.
_CERTAIN = (
    errors.InvalidTimestampError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.RecordListTooLargeError,
)

# What a broker answers because of what is in the batch; damage on the way and a
# broker's own bug (-1) may pass. aiokafka 0.14 doesn't know INVALID_RECORD (87), which
# comes out as the latter.
REFUSALS = (*_CERTAIN, errors.CorruptRecordException, errors.UnknownError)

_FENCES = (
    errors.ProducerFenced,
    # Brokers answer the requests that aiokafka sends with this one.
    errors.InvalidProducerEpoch,
)


class BatchRefusedError(ClientError):  # type: ignore[misc] # aiokafka is untyped
    """The broker refuses a batch for what is in it: send less, find the record."""

    def __init__(self, error: ClientError) -> None:
        super().__init__(str(error))
        self.message = str(error)
        self.error_class = error_type(error)
        # Whether the same batch will be refused again.
        self.is_certain = isinstance(error, _CERTAIN)


def error_type(error: Exception) -> str:
    """Name what failed: the broker's error where it refused, else the class."""
    if isinstance(error, BatchRefusedError):
        return error.error_class
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what is behind it: aiokafka and httpx wrap what they met."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_fenced(error: BaseException) -> bool:
    """Whether a failure came from another producer's newer epoch."""
    return any(isinstance(cause, _FENCES) for cause in causes(error))


def forbidden(error: BaseException, topic: str | None) -> KafkaRefusedError | None:
    """Make the error for a write, to that topic or some, that isn't authorized."""
    if isinstance(error, errors.TopicAuthorizationFailedError):
        where = "the topic" if topic is None else f"the topic {topic}"
        return KafkaRefusedError(
            f"Not authorized to write to {where} ({error})",
            hint=f"Grant the user Write on {where}",
        )
    if isinstance(error, errors.TransactionalIdAuthorizationFailed):
        return KafkaRefusedError(
            f"Not authorized for the transactional ids of the bridge ({error})",
            hint="Grant the user Write and Describe on all transactional ids that"
            " begin with kafka.client_id (BRIDGE_KAFKA_CLIENT_ID)",
        )
    if isinstance(error, errors.ClusterAuthorizationFailedError):
        return KafkaRefusedError(
            f"Not authorized to write idempotently ({error})",
            hint="Grant the user IdempotentWrite on the cluster",
        )
    return None


def no_producer(error: ClientError, id_prefix: str | None) -> KafkaError:
    """Say why a producer, whose transactional id begins so, got no producer id."""
    if error.retriable:
        return KafkaUnreachableError(
            f"Kafka gives no producer id now: {error}; the bridge asks again"
        )
    if id_prefix is None:
        return KafkaRefusedError(
            f"Kafka refuses an idempotent producer: {error}",
            hint="Grant the user Write on the topics (or IdempotentWrite on the"
            " cluster)",
        )
    return KafkaRefusedError(
        f"Kafka refuses a transactional producer: {error}",
        hint="Grant the user Write and Describe on all transactional ids that begin"
        f" with {id_prefix}",
    )
