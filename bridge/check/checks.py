"""
The list of steps, from the settings to the brokers.

Steps that don't need one another run at the same time.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import trio

from bridge.check.dryapi import dryapi_steps
from bridge.check.kafka import kafka_steps, registry_steps
from bridge.check.machine import outbox_steps, webhook_steps
from bridge.check.report import Line, Outcome, Report
from bridge.check.step import Step
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
    own = Step(_SETTINGS, "", partial(_look_at_settings, settings, warnings), _HINT)
    *outbox, file, space = outbox_steps(settings)
    dryapi, clock = dryapi_steps(settings, own)
    steps = [
        own,
        *dryapi,
        *kafka_steps(settings, file),
        *registry_steps(settings),
        *(*outbox, file, space),
        *webhook_steps(settings),
        clock,
    ]
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


async def _look_at_settings(
    settings: Settings, warnings: Sequence[str], step: Step[ssl.SSLContext]
) -> ssl.SSLContext:
    """Give the TLS context for dryAPI."""
    for warning in warnings:
        step.warn(warning, _HINT)
    if not warnings:
        step.detail = "each can be used"
    return client_context(settings.pusher.ca_file)
