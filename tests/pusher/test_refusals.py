"""When a refusal is final for a session, and what comes after that."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.scripted import (
    Peer,
    closing,
    end_at_once,
    refusal,
    spoken,
)


async def _once(peer: Peer) -> None:
    """Work for a second."""
    await peer.enrol()
    await trio.sleep(1)
    await peer.close(4200)


# Subscribed, refused (22 to 30 s before the next try), or another failure.
_SCRIPTS = {"s": spoken(_once), "r": closing(4009), "f": end_at_once}


@pytest.mark.parametrize(
    ("steps", "timeout_seconds"),
    [
        ("r", 20),
        ("fr", 20),
        ("sr", 0),
        ("srr", 20),
        ("srrr", 40),
        # An hour without network would prove nothing: two in a row are needed.
        ("srfrr", 20),
        ("srffrfrr", 20),
        # After a subscription the whole time has to pass again.
        ("srsrr", 20),
        ("srrsrrr", 40),
    ],
)
async def test_what_makes_a_refusal_final(
    steps: str, timeout_seconds: int, autojump_clock: MockClock
) -> None:
    """At once at the start; after it worked, two in a row that span the time."""
    error, stage = await refusal(
        *(_SCRIPTS[step] for step in steps), refused_timeout_seconds=timeout_seconds
    )
    assert error.code == 4009
    assert len(stage.server.dials) == len(steps)
