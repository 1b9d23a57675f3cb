"""Producers of aiokafka's that this process has made, and those that weren't closed.

aiokafka warns of one when the garbage collector meets it, in some later test; here the
test that left it is named.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

from aiokafka import AIOKafkaProducer  # noqa: TID251 - looked at, not used


_made: weakref.WeakSet[AIOKafkaProducer] = weakref.WeakSet()


def track_producers() -> None:
    """Note each producer that is made from now on."""
    make = AIOKafkaProducer.__init__

    @functools.wraps(make)
    def made(producer: AIOKafkaProducer, *arguments: Any, **options: Any) -> None:
        make(producer, *arguments, **options)
        _made.add(producer)

    AIOKafkaProducer.__init__ = made


def unclosed_producers() -> list[AIOKafkaProducer]:
    """Give those that are still open; each is named once, and never again."""
    # aiokafka has no public word for it.
    unclosed = [one for one in _made if one._closed is False]  # noqa: SLF001
    for producer in unclosed:
        # Or aiokafka would warn of it in another test.
        producer._closed = True  # noqa: SLF001
        _made.discard(producer)
    return unclosed
