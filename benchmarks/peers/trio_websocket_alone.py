"""
The floor: trio-websocket's own `get_message` loop, which does nothing with a message.

The environment says from where events come, and how many. It writes when the last one
came, and waits to be ended. It is written as a user of trio-websocket would write it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

import trio
import trio_websocket  # noqa: TID251 - it is what is measured


# As the bridge's; trio-websocket's default of 4 KiB makes it slower.
_RECEIVE_BUFFER_BYTES = 131_072


async def _read(names: Mapping[str, str]) -> None:
    async with trio_websocket.open_websocket_url(
        names["PUSHER_URL"], receive_buffer_size=_RECEIVE_BUFFER_BYTES
    ) as connection:
        await connection.get_message()  # pusher:connection_established
        subscription = {"auth": "any:any", "channel": names["CHANNEL"]}
        await connection.send_message(
            json.dumps({"event": "pusher:subscribe", "data": subscription})
        )
        await connection.get_message()  # subscription_succeeded
        # No deadline: the benchmark ends this process.
        for _ in range(int(names["EVENTS"])):
            await connection.get_message()
        sys.stdout.write(f"the last message came at {time.monotonic_ns()}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_read, os.environ)
