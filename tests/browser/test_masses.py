"""More on the topics than anybody can look at: the page shows what it can."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.stack import board_process
from tests.conftest import Topic
from tests.kit.broker import KafkaBroker
from tests.kit.process import free_ports, start_all, stop_all


# Writing a million records takes some ten seconds, reading them as long; all cores may
# be busy.
pytestmark = pytest.mark.timeout(300)

_START_SECONDS = 40.0
_PATIENCE_MS = 60_000

_JOBS = 1_000_000
_SHOWN_JOBS = 200

# As a picture of 15 MB comes in an event.
_PREVIEW_BYTES = 20_000_000
_RECORD_BYTES = 32 * 2**20

# What is kept of jobs and previews has a bound; one record is read whole.
_MOST_MEMORY_BYTES = 512 * 2**20


def _write(producer: Producer, topic: str, number: int, **more: str) -> None:
    job_id = f"job-{number:07}"
    value = {"request_id": job_id, "status": "in_progress", **more}
    while True:
        try:
            producer.produce(topic, json.dumps(value).encode(), job_id.encode())
        except BufferError:
            producer.poll(0.1)
        else:
            return


def test_a_million_jobs_and_a_preview_of_20_megabytes(
    own_kafka: KafkaBroker, topic: Topic, tmp_path: Path, open_page: Open
) -> None:
    """The newest are shown, the others counted; the memory stays within bounds."""
    name = f"{topic.name}-many"
    own_kafka.create_topic(name, 1, {"max.message.bytes": str(_RECORD_BYTES)})
    producer = Producer(
        {
            "bootstrap.servers": own_kafka.bootstrap_servers,
            "linger.ms": 50,
            "message.max.bytes": _RECORD_BYTES,
            "queue.buffering.max.kbytes": 256 * 1024,
        }
    )
    for number in range(_JOBS):
        _write(producer, name, number)
    assert producer.flush(_START_SECONDS) == 0
    (port,) = free_ports(1)
    child = board_process(tmp_path / "board", name, port, own_kafka)
    start_all([child], deadline_seconds=_START_SECONDS)
    try:
        page = open_page(f"http://127.0.0.1:{port}/")
        page.wait_standing("Live", _PATIENCE_MS / 1000)
        seen = (
            page.find("#figures > div").filter(has_text="Jobs seen").locator(".value")
        )
        expect(seen).to_have_text("1M", timeout=_PATIENCE_MS)
        expect(page.find(".card")).to_have_count(_SHOWN_JOBS)

        picture = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(_PREVIEW_BYTES * 3 // 4))
        address = f"data:image/jpeg;base64,{picture.decode()}"
        _write(producer, name, _JOBS, preview=address)
        assert producer.flush(_START_SECONDS) == 0
        huge = page.card(f"job-{_JOBS:07}")
        expect(huge.locator(".blank")).to_contain_text("large", timeout=_PATIENCE_MS)
        _write(producer, name, _JOBS + 1)
        assert producer.flush(_START_SECONDS) == 0
        expect(page.card(f"job-{_JOBS + 1:07}")).to_be_visible(timeout=_PATIENCE_MS)
        page.check()
        assert psutil.Process(child.pid).memory_info().rss < _MOST_MEMORY_BYTES
    finally:
        stop_all([child], grace_seconds=_START_SECONDS)
        own_kafka.delete_topics(name)
