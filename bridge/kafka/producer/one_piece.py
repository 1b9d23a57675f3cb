"""
Produce requests that are copied once on their way to the socket.

aiokafka 0.14 joins a request from the inside out, each level anew, and then puts its
header and its length before it: a batch is copied eight times after it was built,
which takes 1.3 ms where it has 768 KiB. Here all pieces are joined at once, which
takes 30 us. What stands in a request is not looked at: its own schema says how it
is written.

It stands on how `AIOKafkaConnection.send` writes: `size + (header.encode() +
struct.encode())`. tests/kafka/producer/test_one_piece.py fails if a release writes
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

from aiokafka.protocol.produce import (  # noqa: TID251 - this room speaks to aiokafka
    ProduceRequest,
)
from aiokafka.protocol.types import (  # noqa: TID251 - as above
    Array,
    Bytes,
    Int32,
    Schema,
)


__all__ = ["in_one_piece"]


def in_one_piece(request: Any) -> Any:
    """
    Have a request joined once if it is one that carries batches.

    Args:
        request: Any request of aiokafka.

    Returns:
        The same request.
    """
    if isinstance(request, ProduceRequest):
        # It is built for each connection, of the version that the broker there knows.
        request.build = partial(_build, request.build)
    return request


def _build(build: Any, version: Any) -> Any:
    struct = build(version)
    struct.build_request_header = partial(_begin, struct, struct.build_request_header)
    struct.encode = bytes
    return struct


def _begin(struct: Any, build_header: Any, **named: Any) -> _Unjoined:
    header = build_header(**named).encode()
    values = [getattr(struct, name) for name in struct.SCHEMA.names]
    return _Unjoined([header, *_pieces(struct.SCHEMA, values)])


class _Unjoined:
    """
    A whole request in the place of its header, before an empty body.

    Args:
        pieces: Everything behind the request's length.
    """

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = pieces

    def encode(self) -> Self:
        """Give what the body is added to."""
        return self

    def __add__(self, body: bytes) -> Self:
        self._pieces.append(body)
        return self

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __radd__(self, size: bytes) -> bytes:
        return b"".join((size, *self._pieces))


def _pieces(kind: Any, value: Any) -> Iterator[Any]:
    """Give the pieces of a value in order; batches as they are."""
    if isinstance(kind, Schema):
        for field, item in zip(kind.fields, value, strict=True):
            yield from _pieces(field, item)
    elif isinstance(kind, Array) and value is not None:
        yield Int32.encode(len(value))
        for item in value:
            yield from _pieces(kind.array_of, item)
    elif kind is Bytes and value is not None:
        yield Int32.encode(len(value))
        yield value
    else:
        yield kind.encode(value)
