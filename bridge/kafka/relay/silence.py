"""
Finding out why Kafka is silent.

aiokafka's idempotent producer tries again for minutes where a broker no longer lets it
in, and tells nobody: a changed password, a certificate that has expired, a token that
is refused. Whoever reads health or the log shall have the reason, so that this knocks
while lanes wait in vain. It changes nothing.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Sequence

from bridge.errors import ConfigError, KafkaError, KafkaUnreachableError
from bridge.kafka.probe import diagnose
from bridge.kafka.relay.outage import Outage
from bridge.settings import KafkaSettings


__all__ = ["explain_silence"]

LOOK_SECONDS = 1.0

# How long what was found out counts: brokers lock accounts that fail too often, and a
# reason is rarely another one soon.
KNOCK_PAUSE_SECONDS = 10.0


async def explain_silence(settings: KafkaSettings, outages: Sequence[Outage]) -> None:
    """
    Tell the groups that wait in vain what is wrong; runs until it is cancelled.

    Args:
        settings: How to reach Kafka.
        outages: What the groups know of it; may grow.
    """
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not any(outage.is_silent for outage in outages):
            continue
        reason: KafkaError | None
        try:
            reason = await diagnose(settings)
        except ConfigError as error:
            reason = KafkaUnreachableError(str(error))
        if reason is not None:
            for outage in outages:
                outage.explain(reason)
        await asyncio.sleep(KNOCK_PAUSE_SECONDS)
