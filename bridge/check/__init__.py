"""
`bridge check`: looks from the settings to the brokers for what is wrong.

It uses what the bridge uses: the same connection to the Pusher server, the same
requests, the same look at topics and at the outbox. It changes nothing. `checks` is
the list of steps; `step` runs them.
"""

from __future__ import annotations

from bridge.check.checks import check, refused_settings
from bridge.check.report import Line, Outcome, Report, as_json, show


__all__ = [
    "Line",
    "Outcome",
    "Report",
    "as_json",
    "check",
    "refused_settings",
    "show",
]
