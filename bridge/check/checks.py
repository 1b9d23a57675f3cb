"""
The list of steps, from the settings to the brokers.

Steps that don't need one another run at the same time.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from bridge.check import dryapi, kafka, machine
from bridge.check.report import Line, Outcome, Report
from bridge.check.step import Step, Steps
from bridge.errors import ConfigError
from bridge.http.tls import client_context
from bridge.settings import Settings


__all__ = ["check", "refused_settings"]

# All of it takes less than 10 s: what is left is for Python's start, and for a server
# that doesn't answer a WebSocket's close.
_SECONDS: Final = 8.0

_SETTINGS: Final = "settings"
_HINT: Final = "Correct it where it is set; `bridge config show` lists every setting"


async def check(
    settings: Settings, warnings: Sequence[str] = (), seconds: float = _SECONDS
) -> Report:
    """
    Run all steps; nothing is changed.

    Args:
        settings: All settings, checked.
        warnings: The warnings about them.
        seconds: When it ends, whether or not every server has responded.
    """
    begun = trio.current_time()
    steps = Steps()

    @steps.step(_SETTINGS, "", _HINT)
    async def tls(step: Step[ssl.SSLContext]) -> ssl.SSLContext:
        for warning in warnings:
            step.warn(warning)
        if not warnings:
            step.detail = "each can be used"
        return client_context(settings.pusher.ca_file)

    handshake = dryapi.add_pusher(steps, settings, tls)
    http = dryapi.add_api(steps, settings, tls)
    dryapi.add_accounts(steps, settings, tls, [handshake, http])
    dryapi.add_status(steps, settings, tls, [http])
    own = Steps()
    outbox = machine.add_outbox(own, settings)
    machine.add_webhooks(own, settings)
    kafka.add_kafka(steps, settings, outbox)
    kafka.add_registry(steps, settings)
    steps += own
    dryapi.add_clock(steps, http)
    async with trio.open_nursery() as nursery:
        for step in steps:
            nursery.start_soon(step.run, begun + seconds)
    lines = tuple(line for step in steps for line in step.lines)
    return Report(lines, trio.current_time() - begun)


def refused_settings(error: ConfigError) -> Report:
    """Report settings with which no other step can run."""
    line = partial(Line, _SETTINGS, "", Outcome.FAILURE)
    found = error.message.splitlines()
    return Report(tuple(line(one, _HINT, error.exit_code) for one in found), 0.0)
