"""
What a newcomer is told: the addresses, and how other clients read the topic.

Text alone; the commands are meant to be copied, so no line is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


__all__ = ["Addresses", "commands", "guide"]


@dataclass(frozen=True)
class Addresses:
    """
    What a run has opened.

    Attributes:
        kafka: Bootstrap servers.
        topic: The topic's name.
        board: The page that shows the jobs.
        sandbox: The sandbox's URL.
        health: The bridge's health port, as a URL.
        webhooks: Where the bridge takes the sandbox's webhooks.
    """

    kafka: str
    topic: str
    board: str
    sandbox: str
    health: str
    webhooks: str

    def line(self) -> str:
        """Put them into one line."""
        return f"Kafka {self.kafka}  sandbox {self.sandbox}  health {self.health}"


def commands(addresses: Addresses) -> dict[str, str]:
    """Give a command line for each client that reads the topic."""
    where = f"--bootstrap-server {addresses.kafka} --topic {addresses.topic}"
    return {
        "bridge": f".venv/bin/bridge tail --bootstrap-servers {addresses.kafka}"
        f" --topic {addresses.topic}",
        "kcat": f"kcat -C -b {addresses.kafka} -t {addresses.topic} -f '%k %s\\n'",
        "Kafka's own": f"kafka-console-consumer.sh {where} --from-beginning",
    }


def guide(addresses: Addresses) -> Iterator[str]:
    """
    Say what runs where and what can be done with it.

    Args:
        addresses: What the run has opened.

    Yields:
        Lines.
    """
    yield ""
    topics = (addresses.topic, f"{addresses.topic}.dlq", f"{addresses.topic}.gaps")
    yield f"  Kafka      {addresses.kafka}  (topics {', '.join(topics)})"
    yield f"  sandbox    {addresses.sandbox}/sandbox/statistics"
    yield f"  health     {addresses.health}/readyz, /livez, /metrics"
    yield f"  webhooks   {addresses.webhooks}  (they tell at once of jobs that fail)"
    yield ""
    yield "Look at the topic with other clients:"
    yield ""
    for line in commands(addresses).values():
        yield f"  {line}"
    yield ""
    yield "  from confluent_kafka import Consumer"
    yield (
        f'  consumer = Consumer({{"bootstrap.servers": "{addresses.kafka}",'
        ' "group.id": "me", "auto.offset.reset": "earliest"})'
    )
    yield f'  consumer.subscribe(["{addresses.topic}"])'
    yield "  while message := consumer.poll(10):"
    yield "      print(message.key(), message.value())"
    yield ""
    yield "Start one more job:"
    yield ""
    yield f"  curl -X POST {addresses.sandbox}/jobs"
    yield ""
    yield "Take the WebSocket away for eight seconds, and see what is healed:"
    yield ""
    yield (
        f"  curl -X POST {addresses.sandbox}/sandbox/sockets/drop"
        """ -d '{"refuse":{"seconds":8}}'"""
    )
    yield (
        f"  .venv/bin/bridge gaps --bootstrap-servers {addresses.kafka}"
        f" --topic {addresses.topic}"
    )
    yield ""
    # Last, where nobody overlooks it.
    yield "See the jobs, their pictures and the gaps in a browser:"
    yield ""
    yield f"  {addresses.board}"
    yield ""
