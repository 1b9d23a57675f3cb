"""
What becomes of batches, told to whoever makes traces of it.

Owns how it is told. Who is told, and what is made of it, is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError


__all__ = ["PublicationTrace", "error_type"]


class PublicationTrace(Protocol):
    """Is told of a batch once it is known what became of it; must not wait."""

    def __call__(  # noqa: PLR0913 - facts of their own, most given by place
        self,
        topic: str,
        partition: int,
        rows: Sequence[StoredRecord],
        began_ns: int,
        *,
        base_offset: int | None = None,
        broker: tuple[str, int] | None = None,
        error_type: str | None = None,
    ) -> None:
        """
        Take a batch that was acknowledged or has failed.

        Args:
            topic: The topic.
            partition: The partition.
            rows: What the batch held.
            began_ns: When it was handed to the producer, nanoseconds since the epoch.
            base_offset: The offset of the first; None where it failed.
            broker: Host and port of who acknowledged it, where that is known.
            error_type: What failed; None where nothing did.
        """


def error_type(error: Exception) -> str:
    """Name what failed: the broker's error where it refused, else the class."""
    if isinstance(error, BatchRefusedError):
        return error.error_class
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
