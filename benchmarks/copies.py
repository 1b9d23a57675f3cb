"""
How often the bytes of a large preview are copied on their way, by whom and why.

`python -m benchmarks.copies` (or `make bench-copies`) takes one event with a preview of
100 KB from a real socket through decoder, intake and outbox to a real Kafka. Owns the
reasons, the table and the command line; how it is taken there `copy_stages` says.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.copy_stages import (
    FILE_READ,
    FILE_WRITTEN,
    SQLITE,
    TOPIC,
    Stage,
    event_text,
    from_socket,
    of_frame,
    of_intake,
    open_store,
    through_outbox,
    to_kafka,
)
from benchmarks.machine import Machine, describe, heading
from benchmarks.tables import table
from tests.kit.broker import BrokerError
from tests.kit.downloads import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError


__all__ = ["WHY", "measure", "report"]

_EXPECTED = (BrokerError, FetchError, PortTakenError, ProcessError)

WHY: Final = {
    "trio._socket._SocketType._nonblocking_helper": "out of the kernel",
    "bridge.pusher.frames.Frames.receive_data": "what several reads bring is gathered",
    "bridge.pusher.frames.Frames._take_texts": "UTF-8 is checked and becomes text",
    "bridge.pusher.protocol.decode": (
        "msgspec undoes the escapes of the payload, then makes a text of it"
    ),
    "bridge.job_status.conforming.parse": (
        "the text becomes the value: SQLite and Kafka take bytes"
    ),
    "bridge.job_status.lighter.without_preview": "the preview is cut out",
    "bridge.job_status.lighter.take_preview": "the same, and its escapes are undone",
    "bridge.previews.decoding.decode": "the base64 behind the data URI's head",
    "bridge.previews.decoding._from_base64": "the image",
    SQLITE: "the bound value or the one read, the row of it, the pages of that",
    FILE_WRITTEN: "into the kernel",
    FILE_READ: "out of the kernel",
    "bridge.outbox.rows.table.read": "the row becomes bytes of Python",
    "bridge.kafka.producer.batch.BatchWriter.write": "the batch",
    "aiokafka.codec.has_lz4": "what the codec reads, and room for what it gives",
    "aiokafka.codec.lz4_encode": "compressed: a buffer, and what is used of it",
    "aiokafka.codec.has_zstd": "what the codec reads, and room for what it gives",
    "aiokafka.codec.zstd_encode": "compressed",
    "bridge.kafka.producer.one_piece._Unjoined.__radd__": (
        "the request, around the batch"
    ),
}
"""What each copy is for, by who makes it."""


def measure(folder: Path, kafka: KafkaServer) -> list[Stage]:
    """
    Take an event through all stages, and through some of them in other ways.

    Args:
        folder: For an outbox.
        kafka: Where it goes to.
    """
    text = event_text()
    size = len(text)
    inline, (record,) = of_intake(text)
    stages = [from_socket(text), of_frame(text), inline]
    stages += [of_intake(text, "drop")[0], of_intake(text, "topic")[0]]
    with open_store(folder) as opened:
        through, row = through_outbox(opened, record, size)
    kafka.create_topic(TOPIC)
    servers = kafka.bootstrap_servers
    sent = [to_kafka(servers, row, size, codec) for codec in ("none", "lz4", "zstd")]
    return [*stages, *through, *sent]


def report(machine: Machine, size: int, stages: Sequence[Stage]) -> str:
    """
    Write the table.

    Args:
        machine: Where it was measured.
        size: How long the event's frame is.
        stages: What was found.
    """
    rows = []
    for stage in stages:
        rows.append([stage.name, f"{stage.times:.1f}", "", ""])
        rows += [
            ["", f"{copy.times:.1f}", copy.place, WHY.get(copy.place, "not known")]
            for copy in stage.copies
        ]
    return "\n".join(
        [
            heading("How often a preview of 100 KB is copied", machine),
            f"- one event of {size:,} bytes; 1.0 is all of them once",
            "",
            *table(["stage", "copies", "by", "why"], rows),
            "",
            "The write to Kafka's socket is one more, into the kernel.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0; 1 if Kafka didn't start, 130 when it was interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.copies",
        description="Count how often a preview of 100 KB is copied on its way.",
    )
    parser.parse_args(arguments)
    # As Ctrl-C: the server has to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder, KafkaServer() as kafka:
            stages = measure(Path(folder), kafka)
    except _EXPECTED as error:
        sys.stderr.write(f"make bench-copies: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    machine = describe(own_kafka=True)
    sys.stdout.write(f"{report(machine, len(event_text()), stages)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
