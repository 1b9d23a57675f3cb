"""
The floor: trio-websocket's own `get_message` loop, with nothing done to a message.

A program (`python -m benchmarks.websocket_alone URL EVENTS`): it subscribes, takes
so many messages, says when the last one came, and waits to be measured and ended.
It is written as a user of trio-websocket would write it, and shares no code with
the bridge.
"""

from __future__ import annotations

import json
import sys
import time

import trio
import trio_websocket  # noqa: TID251 - it is what is measured

from benchmarks.traffic import CHANNEL


__all__ = ["DONE_MARK"]

DONE_MARK = "received the last message at "

# As the bridge's; trio-websocket's default of 4 KiB makes it slower.
_RECEIVE_BUFFER_BYTES = 131_072


async def _read(url: str, events: int) -> None:
    async with trio_websocket.open_websocket_url(
        url, receive_buffer_size=_RECEIVE_BUFFER_BYTES
    ) as connection:
        await connection.get_message()  # pusher:connection_established
        subscription = {"auth": "any:any", "channel": CHANNEL}
        await connection.send_message(
            json.dumps({"event": "pusher:subscribe", "data": subscription})
        )
        await connection.get_message()  # subscription_succeeded
        # No deadline: whoever started this ends it.
        for _ in range(events):
            await connection.get_message()
        sys.stdout.write(f"{DONE_MARK}{time.monotonic_ns()}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_read, sys.argv[1], int(sys.argv[2]))
