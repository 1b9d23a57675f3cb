"""
The list of steps, from the settings to the brokers.

Steps that don't need one another run at the same time.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from bridge.check.dryapi import (
    add_accounts,
    add_api,
    add_clock,
    add_pusher,
    add_status,
)
from bridge.check.kafka import add_kafka, add_registry
from bridge.check.machine import add_outbox, add_webhooks
from bridge.check.report import Line, Outcome, Report
from bridge.check.step import Step, Steps
from bridge.errors import ConfigError
from bridge.http.tls import client_context
from bridge.operations.redaction import redact
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

    handshake = add_pusher(steps, settings, tls)
    http = add_api(steps, settings, tls)
    add_accounts(steps, settings, tls, [handshake, http])
    add_status(steps, settings, tls, [http])
    own = Steps()
    outbox = add_outbox(own, settings)
    add_webhooks(own, settings)
    add_kafka(steps, settings, outbox)
    add_registry(steps, settings)
    steps += own
    add_clock(steps, http)
    async with trio.open_nursery() as nursery:
        for step in steps:
            nursery.start_soon(step.run, begun + seconds)
    lines = (line for step in steps for line in step.lines)
    return _report(lines, trio.current_time() - begun)


def refused_settings(error: ConfigError) -> Report:
    """Report settings with which no other step can run."""
    lines = error.message.splitlines()
    code = error.exit_code
    return _report(
        [Line(_SETTINGS, "", Outcome.FAILURE, one, _HINT, code) for one in lines], 0.0
    )


def _report(lines: Iterable[Line], seconds: float) -> Report:
    """Hide secrets that a server repeats, or that are in the wrong setting."""
    hidden = (
        Line(
            line.step,
            redact(line.subject),
            line.outcome,
            redact(line.detail),
            redact(line.hint),
            line.exit_code,
        )
        for line in lines
    )
    return Report(tuple(hidden), seconds)
