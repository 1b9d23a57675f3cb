"""A process that takes webhooks until somebody kills it."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from bridge.http.server import serve
from bridge.outbox import Outbox
from tests.outbox.making import opened, threaded
from tests.webhooks.taking import Taking


async def _main(outbox: Outbox) -> None:
    app = Taking(outbox, hold_seconds=3600).receiver.app
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, app, "127.0.0.1:0")
        print(port, flush=True)  # noqa: T201 - for whoever started it


if __name__ == "__main__":
    with opened(Path(sys.argv[1])) as of_this, threaded(of_this):
        trio.run(_main, of_this)
