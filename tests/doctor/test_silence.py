"""Who says nothing is named by the step that waits for him, within its time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from bridge.doctor import Outcome, Report
from tests.doctor.ground import Ground, remarkable
from tests.doctor.holes import black_hole, deaf_port
from tests.kit.dryapi import AUTH, STATUS
from tests.registry.scripted import Reply, ScriptedRegistry


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


def deaf(path: str) -> Callable[[Ground], dict[str, str]]:
    """Have an endpoint that takes the request and thinks."""
    return lambda ground: ground.answering(path, status=200, delay_seconds=60)


def deaf_registry(ground: Ground) -> dict[str, str]:
    """Have a registry that never comes to the end of an answer."""
    server = ScriptedRegistry(lambda _: Reply(200, b"{}", pause_seconds=4))
    url = ground.stack.enter_context(server.serving()).url
    return {"BRIDGE_SCHEMA_REGISTRY_URL": url}


def at(variable: str, form: str, *, lost: bool) -> Callable[[Ground], dict[str, str]]:
    """Lead to a port without an answer."""

    def make(ground: Ground) -> dict[str, str]:
        port = ground.stack.enter_context(black_hole() if lost else deaf_port())
        return {variable: form.format(port)}

    return make


_SERVERS = "BRIDGE_KAFKA_BOOTSTRAP_SERVERS"

# By the step that has to name it.
_SILENCES: dict[str, tuple[Callable[[Ground], dict[str, str]], str]] = {
    "pusher.tcp": (at("BRIDGE_PUSHER_URL", "ws://127.0.0.1:{}", lost=True), "firewall"),
    "pusher.tls": (
        at("BRIDGE_PUSHER_URL", "wss://127.0.0.1:{}", lost=False),
        "BRIDGE_PUSHER_URL",
    ),
    "pusher.handshake": (
        at("BRIDGE_PUSHER_URL", "ws://127.0.0.1:{}", lost=False),
        "BRIDGE_PUSHER_URL",
    ),
    "api.tcp": (at("BRIDGE_API_URL", "http://127.0.0.1:{}", lost=True), "firewall"),
    "api.http": (
        at("BRIDGE_API_URL", "http://127.0.0.1:{}", lost=False),
        "BRIDGE_API_URL",
    ),
    "authorization": (deaf(AUTH), "BRIDGE_API_URL"),
    "status": (deaf(STATUS), "BRIDGE_API_URL"),
    "kafka.tcp": (at(_SERVERS, "127.0.0.1:{}", lost=True), "firewall"),
    "kafka.broker": (at(_SERVERS, "127.0.0.1:{}", lost=False), _SERVERS),
    "schema_registry": (deaf_registry, "BRIDGE_SCHEMA_REGISTRY_URL"),
}


async def test_silence_is_told_by_the_step_that_meets_it(ground: Ground) -> None:
    """Packets that are lost, a port that is deaf and an answer that doesn't come."""
    reports: dict[str, Report] = {}

    async def look(step: str) -> None:
        make, _ = _SILENCES[step]
        reports[step] = await ground.check(make(ground))

    # Side by side: each waits for some seconds.
    async with trio.open_nursery() as nursery:
        for step in _SILENCES:
            nursery.start_soon(look, step)
    for step, (_, word) in _SILENCES.items():
        told = list(remarkable(reports[step]))
        assert reports[step].seconds < 10
        # Without the status endpoint events come all the same.
        outcome = Outcome.WARNING if step == "status" else Outcome.FAILURE
        assert {(line.step, line.outcome) for line in told} == {(step, outcome)}
        for line in told:
            assert "within" in line.detail
            assert word in line.remedy


async def test_all_of_it_ends_in_time_though_nobody_answers(ground: Ground) -> None:
    """What was not reached by then is skipped; nothing is left out."""
    port = ground.stack.enter_context(black_hole())
    everywhere = {
        "BRIDGE_PUSHER_URL": f"ws://127.0.0.1:{port}",
        "BRIDGE_API_URL": f"http://127.0.0.1:{port}",
        "BRIDGE_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port}",
        _SERVERS: f"127.0.0.1:{port}",
    }
    well = await ground.check()
    report = await ground.check(everywhere, seconds=1.0)
    assert {line.step for line in report.lines} == {
        *(line.step for line in well.lines),
        "schema_registry",
    }
    failed = {line.step for line in report.lines if line.outcome is Outcome.FAILURE}
    assert failed == {"pusher.tcp", "api.tcp", "kafka.tcp", "schema_registry"}
    for line in report.lines:
        if line.outcome is Outcome.FAILURE:
            assert "within" in line.detail
