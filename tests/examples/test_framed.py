"""The examples read values behind a Schema Registry's prefix."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from bridge.gaps.gap import GapCause
from tests.conftest import Topic
from tests.examples.program import command, rows, running
from tests.examples.records import whole_job
from tests.examples.rooms import CLIENT_ID, Rooms, open_rooms


_EXAMPLES = Path(__file__).parents[2] / "examples"


class _Prefix:
    """Confluent's wire format for a schema with an id; what registers it is apart."""

    async def prefix(self, topic: str) -> bytes:  # noqa: ARG002 - the door's name
        return b"\0\0\0\0\x2a"


@pytest.fixture
async def framing(topic: Topic, tmp_path: Path) -> AsyncIterator[Rooms]:
    """Rooms whose relay puts a prefix before values."""
    async with open_rooms(topic, tmp_path / "outbox", framing=_Prefix()) as opened:
        yield opened


async def test_reads_what_stands_behind_a_prefix(
    topic: Topic, framing: Rooms, tmp_path: Path
) -> None:
    """Jobs and gaps are read as without it."""
    framing.ledger.open(CLIENT_ID, GapCause.DEAF, None)
    await framing.settled()
    await framing.publish(whole_job("job-1"))
    servers = ["--bootstrap-servers", topic.bootstrap_servers, "--topic"]
    table: list[str | Path] = [
        sys.executable,
        _EXAMPLES / "latest_state.py",
        *servers,
        topic.name,
    ]
    gaps = [sys.executable, str(_EXAMPLES / "gaps.py"), *servers, topic.gaps]

    async with running(command(topic, "framed"), tmp_path) as program:
        await program.lines(1)
        await program.end()
    async with running([*table, "--once"], tmp_path) as program:
        summary = await program.lines(1)
    with trio.fail_after(20.0):
        ledger = await trio.run_process(gaps, capture_stdout=True, check=False)

    assert rows(tmp_path) == [("job-1", "done", "100.00", 3)]
    assert summary == ["caught up: 1 done"]
    assert ledger.stdout == f"{CLIENT_ID} unknown open deaf\n".encode()
