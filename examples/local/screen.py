"""What a run writes: steps with their time, the guide, the head of the live view."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from typing import TypeVar

import trio
from rich.console import Console
from rich.text import Text

from examples.local.counts import Consumed, percentile
from examples.local.processes import Addresses, BridgeNumbers


__all__ = ["Screen", "guide", "head", "numbers_line"]

T = TypeVar("T")


class Screen:
    """Writes to standard output; works without a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @property
    def is_live(self) -> bool:
        """Whether a live table can be shown."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str) -> None:
        """Write a line as it is; may be called from any thread."""
        self.console.print(text, markup=False, soft_wrap=True)
        # A pipe would show it at the end only.
        sys.stdout.flush()

    async def step(self, title: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something that takes a while; a terminal has a spinner meanwhile."""
        began = trio.current_time()
        if not self.is_live:
            self.say(f"{title} ...")
        with self.console.status(f"{title} ...") if self.is_live else nullcontext():
            result = await work()
        self.say(f"{title}: {trio.current_time() - began:.1f} s")
        return result


def numbers_line(emitted: int, bridge: BridgeNumbers, consumed: Consumed) -> str:
    """Put the counts along an event's path, and the delays, into one line."""
    line = (
        f"emitted {emitted:,}  read {bridge.read:,}  outbox {bridge.waiting:,}  "
        f"consumed {consumed.count:,}"
    )
    if recent := consumed.recent():
        p50, p99 = (1000 * percentile(recent, percent) for percent in (50, 99))
        line += f"  delay p50 {p50:.0f} ms  p99 {p99:.0f} ms"
    return line


def _commands(addresses: Addresses) -> Iterable[str]:
    """Give a command line for each client that reads the topic."""
    servers, topic = addresses.kafka, addresses.topic
    kafkas = f"--bootstrap-server {servers} --topic {topic} --from-beginning"
    return (
        f".venv/bin/bridge tail --bootstrap-servers {servers} --topic {topic}",
        f"kcat -C -b {servers} -t {topic} -f '%k %s\\n'",
        f"kafka-console-consumer.sh {kafkas}",
    )


def head(addresses: Addresses, numbers: str) -> list[Text]:
    """Make the lines above the live table, which covers what was said before."""
    where = (
        f"Kafka {addresses.kafka}  sandbox http://{addresses.sandbox}"
        f"  health http://{addresses.health}"
    )
    lines = [
        Text(f"See the jobs in a browser: http://{addresses.board}/"),
        *(Text(line, style="dim") for line in (where, *_commands(addresses))),
        Text(f"{numbers}  (Ctrl-C stops all)"),
        Text(""),
    ]
    for line in lines:
        line.no_wrap = True
        line.overflow = "ellipsis"
    return lines


def guide(addresses: Addresses) -> str:
    """Say what runs where and what can be done with it, in lines to be copied."""
    topic, sandbox = addresses.topic, f"http://{addresses.sandbox}"
    commands = "\n  ".join(_commands(addresses))
    return f"""
  Kafka      {addresses.kafka}  (topics {topic}, {topic}.dlq, {topic}.gaps)
  sandbox    {sandbox}/sandbox/statistics
  health     http://{addresses.health}/readyz, /livez, /metrics
  webhooks   http://{addresses.webhooks}/webhooks/dryapi  (failed jobs at once)

Look at the topic with other clients:

  {commands}

  from confluent_kafka import Consumer
  consumer = Consumer({{"bootstrap.servers": "{addresses.kafka}", "group.id": "me", \
"auto.offset.reset": "earliest"}})
  consumer.subscribe(["{topic}"])
  while message := consumer.poll(10):
      print(message.key(), message.value())

Start one more job:

  curl -X POST {sandbox}/jobs

Take the WebSocket away for eight seconds, and see what is recovered:

  curl -X POST {sandbox}/sandbox/sockets/drop -d '{{"refuse":{{"seconds":8}}}}'
  .venv/bin/bridge gaps --bootstrap-servers {addresses.kafka} --topic {topic}

See the jobs, their pictures and the gaps in a browser:

  http://{addresses.board}/
"""
