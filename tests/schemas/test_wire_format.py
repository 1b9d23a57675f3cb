"""Values in a registry's wire format, from an outbox through a real Kafka."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import trio

from bridge.errors import ExitCode, RegistryUnknownSchemaError
from bridge.events.record import Record
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    ENVELOPE,
    read_back,
    rig,
    settings_for,
)
from tests.kit.broker import KafkaBroker
from tests.kit.registry import RegistryServer
from tests.rules.intake import status
from tests.schemas.scripted import made


_DOCS = Path(__file__).parents[2] / "docs" / "operate" / "schema-registry.md"


def _record(topic: str, number: int, preview: str | None = None) -> Record:
    return Record(
        topic=topic,
        key=b"job-%d" % number,
        value=status(request_id=f"job-{number}", preview=preview).encode(),
        received_at_us=time.time_ns() // 1000,
        envelope=ENVELOPE,
    )


async def test_a_refused_records_dead_letter_is_without_prefix(
    kafka: KafkaBroker, registry: RegistryServer, topic: Topic, tmp_path: Path
) -> None:
    """The dead letter holds the event's own bytes, and the lane goes on."""
    narrow = f"{topic.name}.narrow"
    kafka.create_topic(narrow, 1, {"max.message.bytes": "2000"})
    framing = made(registry.url, narrow, register=True)
    large, small = _record(narrow, 0, "x" * 3_000), _record(narrow, 1)
    try:
        async with rig(
            settings_for(topic),
            [narrow, topic.dead_letter],
            tmp_path,
            dead_letter_topic=topic.dead_letter,
            wire_format=framing,
        ) as running:
            running.outbox.offer([large, small])
            await running.all_sent(topic.dead_letter, 1)
            await running.all_sent(narrow, 1)
        (kept,) = await read_back(topic, narrow)
    finally:
        kafka.delete_topics(narrow)

    (dead,) = await read_back(topic, topic.dead_letter)
    assert dead.value == large.value
    assert dead.headers["bridge_reason"] == b"refused_by_broker"
    assert (kept.value or b"")[5:] == small.value


async def test_a_first_start_that_the_registry_refuses_ends_if_nothing_waits(
    registry: RegistryServer, topic: Topic, tmp_path: Path
) -> None:
    """At once, as with Kafka; one that doesn't answer is waited for."""
    framing = made(registry.url, topic.name)
    settings = settings_for(topic, start_timeout_seconds=1.0)
    async with rig(settings, [topic.name], tmp_path, wire_format=framing) as running:
        with trio.fail_after(DEADLINE_SECONDS):
            await running.ended.wait()

    (raised,) = running.errors
    assert type(raised) is RegistryUnknownSchemaError
    assert raised.exit_code is ExitCode.REFUSED_BY_KAFKA
    assert await read_back(topic) == []


async def test_the_program_of_the_docs_reads_jobs(
    registry: RegistryServer, topic: Topic, tmp_path: Path
) -> None:
    """A copy of it gets each job, once its addresses are changed."""
    (program,) = re.findall(r"```python\n(.*?)```", _DOCS.read_text("utf-8"), re.DOTALL)
    for printed, own in (
        ("http://localhost:8081", registry.url),
        ("localhost:9092", topic.bootstrap_servers),
        ('["jobs"]', f'["{topic.name}"]'),
    ):
        assert program.count(printed) == 1
        program = program.replace(printed, own)
    framing = made(registry.url, topic.name, register=True)
    async with rig(
        settings_for(topic), [topic.name], tmp_path, wire_format=framing
    ) as running:
        running.outbox.offer([_record(topic.name, number) for number in range(3)])
        await running.all_sent(topic.name, 3)

    async with trio.open_nursery() as nursery:
        child: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        assert child.stdout is not None
        printed_lines = b""
        with trio.fail_after(DEADLINE_SECONDS):
            while printed_lines.count(b"\n") < 3:
                chunk = await child.stdout.receive_some()
                assert chunk, "the program ended"
                printed_lines += chunk
        child.kill()

    assert sorted(printed_lines.decode().splitlines()) == [
        f"job-{number} in_progress" for number in range(3)
    ]
