"""Each account is reported by itself, over a connection of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from bridge.check import Outcome
from bridge.errors import ExitCode
from tests.check.ground import Ground, only_remarkable, remarkable
from tests.kit.scripted import Peer, spoken


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)

_ACCOUNTS = 40
_AT_ONCE = 16

_ALONE: dict[str, str | None] = {"BRIDGE_CLIENT_ID": None, "BRIDGE_API_TOKEN": None}


def accounts_of(ground: Ground) -> Path:
    """Write settings with many accounts, all of one token."""
    token = ground.folder / "token"
    token.write_text("canary-of-all")
    file = ground.folder / "bridge.toml"
    file.write_text(
        "".join(
            f'[[accounts]]\nclient_id = "a{number}"\napi_token_file = "{token}"\n'
            for number in range(_ACCOUNTS)
        )
    )
    return file


async def test_one_refused_account_of_many_is_named(ground: Ground) -> None:
    """The others' channels are signed for and subscribed."""
    api = ground.dryapi({"a0": "canary-of-all"})
    for number in set(range(_ACCOUNTS)) - {7}:
        api.admit(f"a{number}", "canary-of-all")
    changes = {"BRIDGE_API_URL": api.url, **_ALONE}
    report = await ground.check(changes, accounts_of(ground))
    line = only_remarkable(report)
    assert (line.step, line.subject) == ("authorization", "a7")
    assert "[[accounts]]" in line.hint
    assert report.exit_code is ExitCode.REFUSED_BY_DRYAPI
    subscribed = {
        one.subject: one.outcome for one in report.lines if one.step == "subscription"
    }
    assert subscribed.pop("a7") is Outcome.SKIPPED
    assert len(subscribed) == _ACCOUNTS - 1
    assert set(subscribed.values()) == {Outcome.OK}
    assert len(api.authorizations) == _ACCOUNTS
    assert len({one.socket_id for one in api.authorizations}) == _ACCOUNTS
    assert "canary" not in str(report)


async def test_at_most_16_connections_are_open_at_once(ground: Ground) -> None:
    """Each account has one, after one up to the greeting."""
    api = ground.dryapi({"a0": "canary-of-all"})
    for number in range(1, _ACCOUNTS):
        api.admit(f"a{number}", "canary-of-all")
    opened = most = now = 0

    async def acknowledge(peer: Peer) -> None:
        nonlocal opened, most, now
        opened, now = opened + 1, now + 1
        most = max(most, now)
        try:
            await peer.establish()
            channel = (await peer.read_until("pusher:subscribe"))["data"]["channel"]
            # The others have time to come.
            await trio.sleep(0.2)
            await peer.say("pusher_internal:subscription_succeeded", channel=channel)
            await peer.answer_pings()
        finally:
            now -= 1

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, spoken(acknowledge), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        changes = {"BRIDGE_API_URL": api.url, "BRIDGE_PUSHER_URL": url, **_ALONE}
        report = await ground.check(changes, accounts_of(ground))
        nursery.cancel_scope.cancel()
    assert list(remarkable(report)) == []
    assert (opened, most) == (1 + _ACCOUNTS, _AT_ONCE)
