"""The example joins jobs with images that the bridge has moved to their own topic."""

from __future__ import annotations

import base64
import hashlib
import io
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Topic
from tests.examples.program import running
from tests.examples.records import Job, status
from tests.examples.rooms import Rooms, open_rooms
from tests.kit.broker import KafkaBroker


_EXAMPLE = Path(__file__).parents[2] / "examples" / "previews.py"


@pytest.fixture
async def moving(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path
) -> AsyncIterator[Rooms]:
    """Rooms of a bridge whose previews go to a topic of their own."""
    name = f"{topic.name}.previews"
    kafka.create_topic(name, topic.partitions, {"cleanup.policy": "compact"})
    async with open_rooms(topic, tmp_path / "outbox", previews="topic") as opened:
        yield opened
    kafka.delete_topics(name)


def _image(colour: str, kind: str = "jpeg") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(written, kind)
    return written.getvalue()


def _showing(job: Job, image: bytes, kind: str = "jpeg") -> Job:
    text = base64.b64encode(image).decode()
    return job | {"preview": f"data:image/{kind};base64,{text}"}


def _name(image: bytes, suffix: str) -> str:
    return hashlib.sha256(image).hexdigest() + suffix


async def test_joins_jobs_with_their_images(
    topic: Topic, moving: Rooms, tmp_path: Path
) -> None:
    """Each image is a file once, as it was, and each job is told with its last one."""
    red, green = _image("red"), _image("green", "png")
    where = ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.name]
    command: list[str | Path] = [sys.executable, _EXAMPLE, *where]
    await moving.publish([_showing(status("a/../job", "in_progress"), red)])
    await moving.publish([status("job-2", "in_progress") | {"preview": "no image"}])
    async with running(command, tmp_path) as program:
        lines = await program.lines(1)
        ends = [await program.end(signal.SIGINT)]
        assert "Traceback" not in program.errors
    await moving.publish([_showing(status("a/../job", "done"), green, "png")])
    async with running(command, tmp_path) as program:
        (line,) = await program.lines(1)
        if line == lines[0]:
            # Interrupted between the line and its note: at least once.
            (line,) = await program.lines(1)
        lines.append(line)
        ends.append(await program.end())

    names = [_name(red, ".jpg"), _name(green, ".png")]
    assert lines == [f"a/../job {name}" for name in names]
    assert ends == [(0, ""), (0, "")]
    files = {file.name: file.read_bytes() for file in (tmp_path / "previews").iterdir()}
    del files["previews.sqlite3"]
    assert files == dict(zip(names, [red, green], strict=True))
