"""A place that the bridge can't live in ends its start, and the sentence names it."""

from __future__ import annotations

import os
import socket
import sqlite3  # noqa: TID251 - plays another program
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly


# Even root may not write where the mode forbids it, once this capability is out
# of the bounding set (prctl 24, capability 1; linux/prctl.h, linux/capability.h).
_WITHOUT_OVERRIDE = """
import ctypes, os, sys
if os.geteuid() == 0:
    assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_a_second_bridge_on_an_outbox_ends_and_names_the_first(
    scene: Scene, dryapi: str
) -> None:
    """Exit code 2 with the holder's pid; the first one doesn't notice."""
    first = scene.bridge(dryapi)
    await first.start_and_wait()
    second = scene.bridge(dryapi, outbox_dir=first.outbox)
    second.start()
    sentence = await second.wait_refusal(2)
    assert f"{first.outbox} is in use by process {first.pid}" in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence
    async with scene.load() as load:
        await load.run_together([job(3)])
        check_exactly(await scene.records(load.count), load.accepted)
    assert await first.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="calls Linux's prctl")
async def test_a_directory_without_the_right_to_write_ends_the_start(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """Exit code 2, and the sentence names the directory and its setting."""
    directory = tmp_path / "read-only"
    directory.mkdir(mode=0o500)
    bridge = scene.bridge(
        dryapi,
        wrapper=[sys.executable, "-c", _WITHOUT_OVERRIDE],
        outbox_dir=directory,
    )
    bridge.start()
    sentence = await bridge.wait_refusal(2)
    assert f"{directory} can't be used (Permission denied)" in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence


async def test_a_file_in_the_directorys_place_ends_the_start(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """Exit code 2, and the sentence names the path and its setting."""
    file = tmp_path / "file"
    file.touch()
    bridge = scene.bridge(dryapi, outbox_dir=file)
    bridge.start()
    sentence = await bridge.wait_refusal(2)
    assert f"{file} can't be used" in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence


async def test_a_taken_health_port_ends_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 2, and the sentence names the address and its setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        bridge = scene.bridge(dryapi, operations_listen=listen)
        bridge.start()
        sentence = await bridge.wait_refusal(2)
    assert listen in sentence
    assert "BRIDGE_OPERATIONS_LISTEN" in sentence


@pytest.mark.parametrize(
    "content", [b"This is no database.\n" * 1000, b"SQLite format"]
)
async def test_a_file_that_is_no_outbox_is_set_aside_as_it_is(
    scene: Scene, dryapi: str, content: bytes
) -> None:
    """The bridge says where it put it, and works with a new one."""
    bridge = scene.bridge(dryapi)
    bridge.outbox.mkdir()
    (bridge.outbox / "outbox.sqlite3").write_bytes(content)
    await bridge.start_and_wait()
    told = await bridge.wait_logged("outbox.damaged")
    assert await bridge.stop() == 0
    aside = {str(path): path for path in bridge.outbox.glob("*.damaged-*")}
    assert aside[told["set_aside"]].read_bytes() == content


async def test_an_outbox_damaged_inside_is_set_aside(scene: Scene, dryapi: str) -> None:
    """A file that was overwritten behind its first page is told in the same way."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    assert await bridge.stop() == 0
    file = bridge.outbox / "outbox.sqlite3"
    with file.open("r+b") as content:
        content.seek(8192)
        content.write(os.urandom(file.stat().st_size - 8192))
    damaged = file.read_bytes()
    await bridge.start_and_wait()
    told = await bridge.wait_logged("outbox.damaged")
    assert await bridge.stop() == 0
    # SQLite's own files may lie beside it.
    aside = {str(path): path for path in bridge.outbox.glob("*.damaged-*")}
    assert aside[told["set_aside"]].read_bytes() == damaged


async def test_another_programs_database_ends_the_start(
    scene: Scene, dryapi: str
) -> None:
    """Exit code 1: the sentence says what to do, and nobody touches the file."""
    bridge = scene.bridge(dryapi)
    bridge.outbox.mkdir()
    file = bridge.outbox / "outbox.sqlite3"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE theirs (value)")
        other.commit()
    content = file.read_bytes()
    bridge.start()
    sentence = await bridge.wait_refusal(1)
    assert f"{file} is a database, but no outbox" in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence
    assert file.read_bytes() == content
