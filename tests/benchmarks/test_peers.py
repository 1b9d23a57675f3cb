"""What the peers' programs promise that can be seen without a server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.line_up import LINE_UP
from benchmarks.peers import contenders, pysher_program
from benchmarks.traffic import EVENT
from tests.kit.cache import CACHE_VARIABLE
from tests.kit.downloads import FetchError, node


_FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"

# Offers so many events of so many bytes, keeps each batch waiting for a while, and
# tells what was sent.
_BATCHES = """
const Batches = require(process.argv[1]);
const events = Number(process.argv[2]);
const bytes = Number(process.argv[3]);
const sent = [];
let underway = 0;
const batches = new Batches(async (messages) => {
    underway += 1;
    sent.push({ underway, keys: messages.map((message) => message.key) });
    await new Promise((go) => setTimeout(go, 1));
    underway -= 1;
});
for (let event = 0; event < events; event += 1) {
    batches.add(String(event), Buffer.alloc(bytes));
}
batches.empty().then(() => console.log(JSON.stringify(sent)));
"""


def _sent(events: int, size_bytes: int) -> list[dict[str, Any]]:
    output = subprocess.run(
        [node(), "-e", _BATCHES, _FOLDER / "batches.cjs", str(events), str(size_bytes)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    sent: list[dict[str, Any]] = json.loads(output)
    return sent


@pytest.mark.parametrize(
    ("events", "size_bytes", "most"),
    [(5000, 200, 2000), (40, 90_000, 9), (3, 2**20, 1)],
)
def test_batches_are_bounded_and_in_order(
    events: int, size_bytes: int, most: int
) -> None:
    """No batch made by hand is too large, none is lost, and one is underway at once."""
    sent = _sent(events, size_bytes)

    assert [key for batch in sent for key in batch["keys"]] == list(
        map(str, range(events))
    )
    assert max(len(batch["keys"]) for batch in sent) == most
    assert {batch["underway"] for batch in sent} == {1}


def test_lone_event_is_a_batch() -> None:
    """An event that nobody follows isn't kept waiting."""
    assert _sent(1, 200) == [{"underway": 1, "keys": ["0"]}]


class _FullProducer:
    """Has no room until it was polled."""

    def __init__(self, _: dict[str, Any]) -> None:
        self.room = False
        self.produced: list[tuple[str, str, str]] = []

    def list_topics(self, *_: Any, **__: Any) -> None: ...

    def poll(self, _: float) -> None:
        self.room = True

    def produce(self, topic: str, value: str, key: str, **_: Any) -> None:
        if not self.room:
            raise BufferError
        self.produced.append((topic, key, value))


def test_pysher_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that finds the producer's queue full is offered again."""
    monkeypatch.setattr(pysher_program, "Producer", _FullProducer)
    forwarder: Any = pysher_program._Forwarder("any:1", "jobs")

    forwarder.forward('{"request_id":"a"}')

    assert forwarder._producer.produced == [("jobs", "a", '{"request_id":"a"}')]


def test_benthos_says_that_it_is_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without its program it has an obstacle, which names the way."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    benthos = contenders.Benthos()

    assert "Go" in str(benthos.obstacle())
    program = contenders.benthos_program()
    program.parent.mkdir(parents=True)
    program.touch()
    assert benthos.obstacle() is None


def test_node_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node, or without packages, a program of Node has an obstacle."""

    def missing() -> Path:
        raise FetchError("Node.js", "an index", "do without", "not installed")

    monkeypatch.setattr(contenders, "node", missing)

    assert "Node.js" in str(contenders.NodePeer("any", "batches.cjs").obstacle())


def test_versions_are_those_that_are_built() -> None:
    """The report's versions of Go's modules are go.mod's."""
    versions = contenders.Benthos().versions()

    required = (_FOLDER / "benthos" / "go.mod").read_text()
    assert set(versions) == {"Benthos", "franz-go"}
    for number in versions.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", number)
        assert f" v{number}\n" in required


def test_benthos_takes_the_firehose_s_events() -> None:
    """Its configuration, a text of its own, names the event that is sent."""
    assert f'"{EVENT}"' in (_FOLDER / "benthos" / "config.yaml").read_text()


def test_every_peer_tells_its_versions() -> None:
    """The report names the libraries of whoever ran."""
    for name in ("pysher", "kafkajs", "kafkajs-batched", "benthos"):
        assert LINE_UP[name].contender.versions()


def test_programs_are_there() -> None:
    """What the commands for Node name stands in the folder of the peers."""
    for name in ("kafkajs", "kafkajs-batched"):
        assert vars(LINE_UP[name].contender)["_file"].is_file()
