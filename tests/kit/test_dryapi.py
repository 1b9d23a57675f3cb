"""Faults of dryAPI on command, and what it remembers of its requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - a client of the test's own
import pytest

from tests.kit.dryapi import AUTH, Authorization, DryApi
from tests.kit.publisher import App, Soketi


_SOKETI = Soketi("ws://127.0.0.1:1", App())


@pytest.fixture
def dryapi() -> Iterator[DryApi]:
    """A dryAPI of two accounts."""
    with DryApi(_SOKETI, {"a": "token-a", "b": "token-b"}).serving() as made:
        yield made


@pytest.fixture
def client(dryapi: DryApi) -> Iterator[httpx.Client]:
    """A client that trusts no setting of the machine's."""
    with httpx.Client(base_url=dryapi.url, trust_env=False, timeout=10) as made:
        yield made


def _ask(client: httpx.Client, token: str, account: str, **more: Any) -> httpx.Response:
    body = {"socket_id": "1.1", "channel_name": f"private-client.{account}"}
    headers = {"Authorization": f"Bearer {token}"}
    return client.post(AUTH, json=body, headers=headers, **more)


def _order(client: httpx.Client, command: str, **body: Any) -> None:
    client.post(f"/sandbox/{command}", json=body).raise_for_status()


def test_accounts_are_admitted_and_refused(
    client: httpx.Client, dryapi: DryApi
) -> None:
    """A token signs for its own clients; what was asked is remembered."""
    answer = _ask(client, "token-b", "b")
    assert answer.json() == {"auth": _SOKETI.sign_channel("1.1", "private-client.b")}
    assert _ask(client, "token-b", "a").status_code == 403
    _order(client, "accounts", client_id="a", api_token="token-b")
    assert _ask(client, "token-b", "a").status_code == 200
    for account in ("a", "b"):
        _order(client, "accounts", client_id=account, api_token="token-b", known=False)
    assert _ask(client, "token-b", "b").status_code == 401
    assert dryapi.authorizations[0] == Authorization(
        "Bearer token-b", "*/*", "1.1", "private-client.b"
    )
    listed = client.get("/sandbox/requests").json()
    assert [one["path"] for one in listed] == [AUTH] * 4


def test_answers_are_given_on_command(client: httpx.Client, dryapi: DryApi) -> None:
    """Orders with a number come one after the other; one without replaces them."""
    _order(client, "answers", path=AUTH, times=1, status=503, headers={"A": "b"})
    _order(client, "answers", path=AUTH, times=1, status=200, body="<html>")
    first, second, third = (_ask(client, "token-a", "a") for _ in range(3))
    assert (first.status_code, first.headers["a"]) == (503, "b")
    assert second.text == "<html>"
    assert third.status_code == 200
    _order(client, "answers", path="/", headers={"Date": None})
    assert "date" not in _ask(client, "token-a", "a").headers
    _order(client, "answers", path="/", seconds=0)
    assert "date" in client.head("/").headers
    dryapi.answer(AUTH, delay_seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        _ask(client, "token-a", "a", timeout=0.1)
    dryapi.reset(AUTH)
    assert _ask(client, "token-a", "a").status_code == 200
