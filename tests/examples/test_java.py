"""The Java example compiles without a warning and reads what the bridge wrote."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Topic
from tests.examples.program import caught_up, running
from tests.examples.records import records_of, status, write_aborted, write_again
from tests.examples.rooms import Publish
from tests.kit import wheels


_EXAMPLE = Path(__file__).parents[2] / "examples" / "java" / "JobConsumer.java"

# 128 + SIGTERM: a JVM's exit code after SIGTERM.
_TERMINATED = 143


@pytest.fixture
def java(java_tools: tuple[Path, list[Path]], tmp_path: Path) -> list[str | Path]:
    """Compile the example: the beginning of its command line."""
    compiler, jars = java_tools
    path = os.pathsep.join(str(jar) for jar in jars)
    target = tmp_path / "classes"
    options: list[str | Path] = ["-21", "-proc:none", "-failOnWarning", "-cp", path]
    compiled = subprocess.run(
        [wheels.java(), "-jar", compiler, *options, "-d", target, _EXAMPLE],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    # Without -XX:-UsePerfData a JVM leaves a file in /tmp when it is killed.
    machine = ["-XX:-UsePerfData", "-XX:TieredStopAtLevel=1"]
    return [wheels.java(), *machine, "-cp", f"{path}{os.pathsep}{target}"]


async def test_prints_each_state_and_goes_on_where_it_was(
    topic: Topic, publish: Publish, java: list[str | Path], tmp_path: Path
) -> None:
    """States come in order with their places, identities and marks."""
    command = [*java, "JobConsumer", topic.bootstrap_servers, topic.name, "java"]
    await publish(
        [status("job-1", "processing"), status("job-1", "in_progress", "45.50")]
    )
    async with running(command, tmp_path) as program:
        lines = await program.lines(2)
        await caught_up(topic, "java")
        code, _ = await program.end()
    assert code == _TERMINATED

    first, *_ = await records_of(topic, 2)
    write_again(topic, first, bridge_anomaly=b"resent")
    write_aborted(topic, first, ce_id=b"never-1")
    await publish([status("job-1", "done", "100.00")])
    async with running(command, tmp_path) as program:
        lines += await program.lines(2)

    states = [
        ("processing", "-"),
        ("in_progress", "45.50"),
        ("processing", "-"),
        ("done", "100.00"),
    ]
    assert lines == [
        f"{record.partition}/{record.offset} job-1 {word} {progress} "
        f"{record.headers['ce_id'].decode()} "
        f"{record.headers.get('bridge_anomaly', b'-').decode()}"
        for record, (word, progress) in zip(
            await records_of(topic, 4), states, strict=True
        )
    ]
    assert [line.rpartition(" ")[2] for line in lines] == ["-", "-", "resent", "-"]
