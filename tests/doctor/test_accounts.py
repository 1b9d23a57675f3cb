"""Each account is reported by itself, over a connection of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.doctor import Outcome
from bridge.errors import ExitCode
from tests.doctor.ground import Ground, only_remarkable


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)

_ACCOUNTS = 40

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
    assert "[[accounts]]" in line.remedy
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
