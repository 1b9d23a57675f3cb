"""
How fast `bridge verify` reads a large topic, its processor time and its memory.

`python -m benchmarks.verify [RECORDS] [--record-bytes N]` fills a topic with records
that have a bridge's headers, verifies it with the command, and prints the command's
rate, also by processor time, and its resident memory at each tenth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence

import msgspec
import psutil
from confluent_kafka import Producer

from benchmarks.program import RunError, conclude, count
from benchmarks.run import PARTITIONS, kafka_running
from tests.kit.broker import KafkaBroker


_EVENTS_OF_A_JOB = 8
_FLUSH_SECONDS = 120.0
_SAMPLE_SECONDS = 0.5
_MIB = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, verify, print; the exit code is 1 for issues, or if Kafka failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verify", description="Measure `bridge verify`."
    )
    parser.add_argument("records", type=count, nargs="?", default=1_000_000)
    parser.add_argument("--record-bytes", type=count, default=300)
    options = parser.parse_args(arguments)
    return conclude(
        "benchmarks.verify", lambda: _measure(options.records, options.record_bytes)
    )


def _measure(records: int, record_bytes: int) -> int:
    topic = f"verify-{uuid.uuid4().hex[:8]}"
    with kafka_running() as (broker, _):
        broker.create_topic(topic, PARTITIONS)
        began = time.monotonic()
        _fill(broker, topic, records, record_bytes)
        print(f"filled with {records:,} records in {time.monotonic() - began:.1f} s")
        encoded, cpu, resident = _verify(broker, topic)
    report = msgspec.json.decode(encoded)
    rate = report["records"] / report["seconds"]
    print(
        f"{report['records']:,} records in {report['seconds']:.1f} s: {rate:,.0f}/s,"
        f" {report['records'] / cpu:,.0f} a CPU second;"
        f" issues: {report['counts'] or 'none'}"
    )
    tenths = [f"{resident[len(resident) * n // 10] / _MIB:.1f}" for n in range(10)]
    print(f"MiB: {' '.join(tenths)}; most: {max(resident) / _MIB:.1f}")
    return 1 if report["counts"] or report["records"] != records else 0


def _fill(broker: KafkaBroker, topic: str, records: int, record_bytes: int) -> None:
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 200_000,
        }
    )
    outbox, incarnation = str(uuid.uuid4()).encode(), uuid.uuid4().hex[:16]
    value = b"x" * record_bytes
    sequences = [0] * PARTITIONS
    for number in range(records):
        job = number // _EVENTS_OF_A_JOB
        partition = job % PARTITIONS
        sequences[partition] += 1
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"%s-%d" % (incarnation.encode(), number)),
            ("ce_source", b"/dryapi/clients/benchmark"),
            ("ce_type", b"ai.dryapi.job.processing"),
            ("ce_time", b"2026-01-01T00:00:00.000000Z"),
            ("content-type", b"application/json"),
            ("bridge_outbox", outbox),
            ("bridge_sequence", b"%d" % sequences[partition]),
            ("bridge_origin", b"socket"),
        ]
        while True:
            try:
                producer.produce(
                    topic, value, str(job), partition=partition, headers=headers
                )
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    if producer.flush(_FLUSH_SECONDS):
        raise RunError("Kafka didn't accept all records")


def _verify(broker: KafkaBroker, topic: str) -> tuple[bytes, float, list[int]]:
    """Run the command; give its report, its CPU seconds, its resident bytes."""
    command = [
        *(sys.executable, "-m", "bridge", "verify", "--output=json", "--topic", topic),
        *("--bootstrap-servers", broker.bootstrap_servers),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        process, resident, cpu = psutil.Process(child.pid), list[int](), 0.0
        while child.poll() is None:
            resident.append(process.memory_info().rss)
            cpu = sum(process.cpu_times()[:2])
            time.sleep(_SAMPLE_SECONDS)
        assert child.stdout is not None
        return child.stdout.read(), cpu, resident


if __name__ == "__main__":
    sys.exit(main())
