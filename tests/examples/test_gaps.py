"""The example says when data may be missing, from records that the bridge wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from bridge.gaps.gap import GapCause
from tests.conftest import Topic
from tests.examples.rooms import CLIENT_ID, Rooms


_EXAMPLE = Path(__file__).parents[2] / "examples" / "gaps.py"

# 2026-01-31T12:00:00Z.
_NOON_US = 1_769_860_800_000_000
_SECOND_US = 1_000_000


async def _run(topic: Topic, *options: str) -> tuple[int, list[str]]:
    where = ["--bootstrap-servers", topic.bootstrap_servers, "--topic", topic.gaps]
    with trio.fail_after(20.0):
        done = await trio.run_process(
            [sys.executable, str(_EXAMPLE), *where, *options],
            capture_stdout=True,
            check=False,
        )
    return done.returncode, done.stdout.decode().splitlines()


async def test_says_when_data_may_be_missing(topic: Topic, rooms: Rooms) -> None:
    """Gaps that overlap are one interval; what is open or unknown is told as that."""
    ledger = rooms.ledger
    first = ledger.open(CLIENT_ID, GapCause.FIRST_START, None)
    ledger.close(first, _NOON_US)
    crash = ledger.open(CLIENT_ID, GapCause.CRASHED, _NOON_US + 60 * _SECOND_US)
    loss = ledger.open(CLIENT_ID, GapCause.OVERFLOW, _NOON_US + 65 * _SECOND_US)
    ledger.close(crash, _NOON_US + 70 * _SECOND_US)
    ledger.close(loss, _NOON_US + 72 * _SECOND_US + 250_000)
    ledger.open(CLIENT_ID, GapCause.DEAF, _NOON_US + 600 * _SECOND_US)
    await rooms.settled()

    everything = await _run(topic)
    whole_minute = await _run(
        topic, "--since", "2026-01-31T12:02:00Z", "--until", "2026-01-31T12:03:00Z"
    )

    unknown, minute, opened = everything[1]
    assert everything[0] == 1
    assert unknown == f"{CLIENT_ID} unknown 2026-01-31T12:00:00+00:00 first_start"
    assert minute == (
        f"{CLIENT_ID} 2026-01-31T12:01:00+00:00 2026-01-31T12:01:12.250000+00:00 "
        "crashed,overflow"
    )
    assert opened == f"{CLIENT_ID} 2026-01-31T12:10:00+00:00 open deaf"
    assert whole_minute == (0, [])
    assert (await _run(topic, "--client-id", "another"))[0] == 0
