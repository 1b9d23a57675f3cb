"""What brokers and registries answer now and then, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.transaction import (  # noqa: TID251 - likewise
    InitProducerIdRequest,
)

from bridge.check import Outcome
from tests.check.ground import Ground, details, only_remarkable, remarkable
from tests.check.planting import NO_SUBJECT, registry
from tests.kafka.relay.faults import intercept
from tests.registry.scripted import Asked, Reply, ScriptedRegistry


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)

# https://kafka.apache.org/protocol#protocol_error_codes
_LOADING = 14
_FORBIDDEN = 31

_Send = Callable[[], Awaitable[Any]]


async def test_no_right_to_write_idempotently_is_told(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brokers before 2.8 want a right of its own for it."""

    async def forbid(_: _Send) -> object:
        return SimpleNamespace(error_code=_FORBIDDEN)

    intercept(monkeypatch, InitProducerIdRequest, forbid)
    line = only_remarkable(await ground.check())
    assert (line.step, line.outcome) == ("kafka.producer", Outcome.FAILURE)
    assert "IdempotentWrite on the cluster" in line.hint


async def test_a_broker_that_has_just_started_gets_a_moment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no ids to give for some tenths of a second."""
    answers = [_LOADING, _LOADING]

    async def load(onward: _Send) -> object:
        return SimpleNamespace(error_code=answers.pop()) if answers else await onward()

    intercept(monkeypatch, InitProducerIdRequest, load)
    assert list(remarkable(await ground.check())) == []
    assert answers == []


async def test_a_schema_that_is_there_is_named(ground: Ground) -> None:
    """By the id that will stand before the values."""
    reply = Reply(200, json.dumps({"subject": "s", "version": 1, "id": 258}).encode())
    report = await ground.check(registry(reply)(ground))
    assert list(remarkable(report)) == []
    lines = details(report, "schema_registry")
    assert len(lines) == 2
    assert {line[::2] for line in lines} == {(Outcome.OK, "schema 258")}


async def test_a_schema_that_the_bridge_would_register_is_no_fault(
    ground: Ground,
) -> None:
    """It is looked up, and not registered."""
    asked = []

    def answer(one: Asked) -> Reply:
        asked.append(one.path)
        return NO_SUBJECT

    url = ground.stack.enter_context(ScriptedRegistry(answer).serving()).url
    report = await ground.check(
        {
            "BRIDGE_SCHEMA_REGISTRY_URL": url,
            "BRIDGE_SCHEMA_REGISTRY_REGISTER": "true",
        }
    )
    assert list(remarkable(report)) == []
    for outcome, _, detail in details(report, "schema_registry"):
        assert outcome is Outcome.OK
        assert "the bridge registers it" in detail
    assert len(asked) == 2
    assert not [path for path in asked if path.endswith("/versions")]
