"""The service's start and stop, where something fails."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
import trio

from bridge.errors import ListenError
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.recovery.gap import Gap, GapCause
from bridge.service import _Service
from bridge.settings import (
    KafkaSettings,
    OperationsSettings,
    OutboxSettings,
    PusherSettings,
    Secret,
    Settings,
)


async def test_a_stop_bears_an_outbox_that_answers_nobody_any_more(
    tmp_path: Path,
) -> None:
    """Its thread has ended, or has just set a damaged file aside: nothing is known."""
    settings = Settings(
        client_id="42", api_token=Secret("x"), outbox=OutboxSettings(dir=tmp_path)
    )
    with OutboxDirectory(tmp_path) as directory:
        service = _Service(settings, directory, None)
        service._outbox.stop()
        service._outbox.run()
        assert not await service._waits_for_nothing()


async def test_a_relay_that_ends_unasked_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on would gather events that nobody carries any further."""
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
    with (
        OutboxDirectory(tmp_path) as directory,
        pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="the relay has ended")),
    ):
        await _Service(settings, directory, None).run()


async def test_a_start_that_fails_leaves_the_gap_of_the_end_before_it(
    tmp_path: Path,
) -> None:
    """It ends in order itself, but nobody listened since the crash."""
    outbox = OutboxSettings(dir=tmp_path)
    with OutboxDirectory(tmp_path) as directory:
        crashed = Outbox(directory, outbox)
        crashed.prove({"https://api.dryapi.dev/clients/42": 1})
        crashed._writer._round()
        crashed._writer._files.opened.connection.close()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(
            client_id="42",
            api_token=Secret("x"),
            outbox=outbox,
            operations=OperationsSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}"),
            kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        )
        with (
            OutboxDirectory(tmp_path) as directory,
            pytest.RaisesGroup(ListenError),
        ):
            await _Service(settings, directory, None).run()
    with OutboxDirectory(tmp_path) as directory:
        next_one = Outbox(directory, outbox)
        next_one.stop()
        next_one.run()
    (left,) = next_one.memory.left_gaps
    assert Gap.decode(left.value).cause is GapCause.CRASHED
