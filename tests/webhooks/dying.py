"""
A process that takes webhooks until somebody kills it.

Started by `test_killed` with an outbox's directory; prints its port.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from bridge.outbox import Outbox
from bridge.serving import serve
from bridge.settings import Secret, WebhookSettings
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import WebhookStatistics
from bridge.webhooks.steady import steady_clock
from tests.outbox.making import opened, threaded
from tests.webhooks.making import CLIENT_ID, SECRET, make_of


async def _main(outbox: Outbox) -> None:
    receiver = Receiver(
        [Recipient(CLIENT_ID, Secret(SECRET), make_of())],
        take=outbox.take,
        expect=lambda _: None,
        statistics=WebhookStatistics([CLIENT_ID]),
        settings=WebhookSettings(hold_seconds=3600),
        steady_us=steady_clock(),
        is_single=True,
    )
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, receiver.app, "127.0.0.1:0")
        print(port, flush=True)  # noqa: T201 - for whoever started it


if __name__ == "__main__":
    with opened(Path(sys.argv[1])) as of_this, threaded(of_this):
        trio.run(_main, of_this)
