"""The service's start and stop, where something fails."""

from __future__ import annotations

import shutil
import socket
from contextlib import closing
from pathlib import Path

import pytest
import trio

from bridge.errors import ListenError
from bridge.gaps.gap import Gap, GapCause
from bridge.http.tls import client_tls
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.service import run
from bridge.settings import (
    KafkaSettings,
    OperationsSettings,
    OutboxSettings,
    PusherSettings,
    Secret,
    Settings,
)


pytestmark = pytest.mark.usefixtures("logging_as_before")


async def test_a_relay_that_ends_unasked_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on would gather events that no relay sends."""
    settings = Settings(
        client_id="42",
        api_token=Secret("x"),
        outbox=OutboxSettings(dir=tmp_path),
        operations=OperationsSettings(listen="127.0.0.1:0"),
        pusher=PusherSettings(url="ws://127.0.0.1:1"),
    )

    async def end(_: Relay) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Relay, "run", end)
    ended = pytest.RaisesExc(RuntimeError, match="the relay has ended")
    with pytest.RaisesGroup(ended):
        await run(settings, tls=client_tls(None))


async def test_a_start_that_fails_leaves_the_gap_of_the_end_before_it(
    tmp_path: Path,
) -> None:
    """It ends in order itself, but no bridge listened since the crash."""
    crashed = OutboxSettings(dir=tmp_path / "crashed")
    with OutboxDirectory(tmp_path / "outbox") as directory:
        outbox = Outbox(directory, OutboxSettings(dir=directory.path))
        # One that has listened has reached Kafka.
        outbox.open_topic("jobs.gaps", 1, None)
        outbox.continue_behind("jobs.gaps", {0: (0, 0, ())})
        outbox.prove({"https://api.dryapi.dev/clients/42": 1})
        outbox.commit()
        # As it is while a process runs.
        shutil.copytree(directory.path, crashed.dir)
        outbox.close()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(
            client_id="42",
            api_token=Secret("x"),
            outbox=crashed,
            operations=OperationsSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}"),
            kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        )
        with pytest.RaisesGroup(ListenError):
            await run(settings, tls=client_tls(None))
    with OutboxDirectory(crashed.dir) as directory:
        outbox = Outbox(directory, crashed)
        (left,) = outbox.memory.left_gaps
        outbox.close()
    assert Gap.decode(left.value).cause is GapCause.CRASHED
