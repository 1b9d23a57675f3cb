"""
`bridge check`: walks from the settings to the brokers and says what is wrong.

It stands beside `service` and may look into every room, as it asks of each what the
bridge will ask. It changes nothing: no record is written, no topic made, no file.
`walk` is the way, `branch` what a step is, the other modules are its parts; how a
report looks stands in `view`.
"""

from __future__ import annotations

from bridge.doctor.report import Line, Outcome, Report
from bridge.doctor.view import as_json, show
from bridge.doctor.walk import check, refused_settings


__all__ = [
    "Line",
    "Outcome",
    "Report",
    "as_json",
    "check",
    "refused_settings",
    "show",
]
