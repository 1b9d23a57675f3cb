"""
Why no connection comes about: an error that names the setting and what to do.

aiokafka tells the cause to its log alone, or tries again in silence. So whoever has
waited for it in vain has this module knock once more at each address, as the settings
say, and at those that the brokers send their clients on to. What the answer to a knock
means stands in `verdict`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka.conn import (  # noqa: TID251 - this room speaks to aiokafka
    collect_hosts,
    create_conn,
)
from aiokafka.errors import KafkaError as ClientError  # noqa: TID251 - as above
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251 - as above

from bridge.errors import KafkaError, KafkaRefusedError
from bridge.kafka.client.connection import client_arguments, token_source, unreachable
from bridge.kafka.client.verdict import Place, in_words, refusal
from bridge.settings import KafkaSettings


__all__ = ["diagnose", "failed_start"]

# How long one address may take to say why it doesn't let a client in.
_KNOCK_SECONDS = 5.0


class _Knock(msgspec.Struct, frozen=True):
    """
    What came of knocking at one address.

    Attributes:
        reason: Why there is no connection; None if there is one.
        refusal: The same where it stays so until a setting is another one.
        brokers: Where the brokers are, by the word of this one.
    """

    reason: str | None
    refusal: KafkaRefusedError | None = None
    brokers: frozenset[tuple[str, int]] = frozenset()


async def failed_start(
    settings: KafkaSettings, timeout_seconds: float = _KNOCK_SECONDS
) -> KafkaError:
    """
    Find out why a client couldn't start.

    Args:
        settings: What the client was started with.
        timeout_seconds: For each address; they are knocked at together.

    Returns:
        As `diagnose`, or that all is well by now.

    Raises:
        ConfigError: A certificate or key can't be used any more.
    """
    error = await diagnose(settings, timeout_seconds)
    if error is not None:
        return error
    return unreachable(settings, "it answers now, but did not at the start")


async def diagnose(
    settings: KafkaSettings, timeout_seconds: float = _KNOCK_SECONDS
) -> KafkaError | None:
    """
    Find out what keeps clients from the brokers.

    Args:
        settings: What they were started with.
        timeout_seconds: For each address; they are knocked at together.

    Returns:
        `KafkaRefusedError` where trying again changes nothing, else
        `KafkaUnreachableError` with the reason of each address that doesn't let the
        bridge in; None where all do.

    Raises:
        ConfigError: A certificate or key can't be used any more.
    """
    if settings.sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"}:
        try:
            await token_source(settings).token()
        except KafkaError as error:
            return error
    arguments = client_arguments(settings)
    hosts = collect_hosts(arguments.pop("bootstrap_servers"), randomize=False)
    first = {(host, port) for host, port, _ in hosts}
    knocks = await _knock_at(settings, arguments, first, timeout_seconds)
    others = {place for knock in knocks.values() for place in knock.brokers} - first
    knocks |= await _knock_at(settings, arguments, others, timeout_seconds)
    for knock in knocks.values():
        if knock.refusal is not None:
            return knock.refusal
    reasons = [
        f"{host}:{port}: {knock.reason}"
        for (host, port), knock in knocks.items()
        if knock.reason is not None
    ]
    return unreachable(settings, "; ".join(reasons)) if reasons else None


async def _knock_at(
    settings: KafkaSettings,
    arguments: dict[str, Any],
    places: Iterable[tuple[str, int]],
    timeout_seconds: float,
) -> dict[tuple[str, int], _Knock]:
    """Knock at several addresses together; in an order that stays."""
    found = sorted(places)
    knocks = await asyncio.gather(
        *(
            _knock(Place(settings, arguments, host, port), timeout_seconds)
            for host, port in found
        )
    )
    return dict(zip(found, knocks, strict=True))


async def _knock(place: Place, timeout_seconds: float) -> _Knock:
    try:
        async with asyncio.timeout(timeout_seconds):
            brokers = await _ask(place)
    # ValueError: a broker that doesn't prove, over SCRAM, that it knows the password.
    except (OSError, ClientError, ValueError) as error:
        refused = None
        # Whatever it finds out besides has the time of another knock.
        try:
            async with asyncio.timeout(timeout_seconds):
                refused = await refusal(place, error)
        except TimeoutError:
            pass
        return _Knock(in_words(error, timeout_seconds), refused)
    return _Knock(None, brokers=brokers)


async def _ask(place: Place) -> frozenset[tuple[str, int]]:
    """Connect, sign in and ask for the brokers, as every client does."""
    connection = await create_conn(place.host, place.port, **place.arguments)
    try:
        # A listener that wants SASL lets anybody connect, and ends it only here.
        answer = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    return frozenset((broker[1], broker[2]) for broker in answer.brokers)
