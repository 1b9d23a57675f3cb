"""Tests of what a board reads, from where on, and by which names it is reached."""

from __future__ import annotations

import math
import time

import httpx  # noqa: TID251 - the browser of these tests
import pytest
import trio

from bridge.board import following
from bridge.board.running import run
from bridge.kafka.reader import Edge, Start
from bridge.settings import BoardSettings, Settings
from tests.board.readers import Readers


async def _ran(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, *hosts: str
) -> tuple[dict[str, Start], list[int], str]:
    """Run a board; give what it reads, its answers to some hosts, and its address."""
    # All topics are empty.
    readers = Readers(*[[]] * 4)
    monkeypatch.setattr(following, "TopicReader", readers)
    send_address, address = trio.open_memory_channel[str](math.inf)
    codes = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, settings, send_address.send_nowait)
        with trio.fail_after(10):
            told = await address.receive()
            port = told.rstrip("/").rpartition(":")[2]
            async with httpx.AsyncClient(trust_env=False) as client:
                for host in hosts:
                    page = f"http://127.0.0.1:{port}/"
                    answer = await client.get(page, headers={"Host": host})
                    codes.append(answer.status_code)
        nursery.cancel_scope.cancel()
    return dict(zip(readers.topics, readers.starts, strict=True)), codes, told


async def test_topics_are_read_from_some_time_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gaps from their beginning, and previews where they have a topic."""
    board = BoardSettings(listen="127.0.0.1:0", since_seconds=60)
    settings = Settings(topic="j", board=board)
    begun_ms = time.time() * 1000
    starts, _, _ = await _ran(monkeypatch, settings, "localhost")
    since = starts["j"]
    assert isinstance(since, int)
    assert -1 <= since - (begun_ms - 60_000) < 10_000
    assert starts == {"j": since, "j.gaps": Edge.BEGINNING, "j.dlq": since}
    apart = Settings(topic="j", board=board, previews="topic")
    starts, _, _ = await _ran(monkeypatch, apart, "localhost")
    assert set(starts) == {"j", "j.gaps", "j.dlq", "j.previews"}


async def test_the_board_is_reached_by_the_names_that_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by this machine's own; where it listens everywhere, it says one of them."""
    board = BoardSettings(listen="0.0.0.0:0", hosts="a.example, [fe80::1],10.0.0.9")
    hosts = ["a.example:1", "[fe80::1]:1", "10.0.0.9", "localhost", "b.example"]
    settings = Settings(board=board)
    _, codes, address = await _ran(monkeypatch, settings, *hosts)
    assert codes == [200, 200, 200, 200, 421]
    assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("hosts", ["", "a.example,", " , "])
async def test_what_is_no_host_is_known_by_no_name(
    monkeypatch: pytest.MonkeyPatch, hosts: str
) -> None:
    """However the list of names ends: browsers take names that are no host here."""
    board = BoardSettings(listen="127.0.0.1:0", hosts=hosts)
    settings = Settings(board=board)
    _, codes, _ = await _ran(monkeypatch, settings, "stranger$.example", "localhost")
    assert codes == [421, 200]
