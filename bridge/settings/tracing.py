"""
Tracing's group of settings: whether there is any.

Where spans go and which are kept is for the standard OTEL_* variables, which
OpenTelemetry's own SDK reads.
"""

from __future__ import annotations

from typing import Annotated

from bridge.settings.about import Section, about


__all__ = ["TracingSettings"]


class TracingSettings(Section, frozen=True):
    """OpenTelemetry spans, and `traceparent` on records; off by default."""

    enabled: Annotated[
        bool,
        about(
            "Make spans and give records a traceparent; needs the extra tracing, and "
            "OTEL_* variables say where spans go: see docs/tracing.md",
            because="it costs more than all else that is done with an event",
        ),
    ] = False
