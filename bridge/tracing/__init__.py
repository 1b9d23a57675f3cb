"""
OpenTelemetry: a span for each event that comes in, and one for each batch sent.

Owns the spans, the header that takes an event's context to consumers, and the
exporter's end. It is off by default, and then nothing of OpenTelemetry is imported,
which is an extra of this package. Where spans go and which are kept is for the
standard OTEL_* variables, which its SDK reads.
"""

from __future__ import annotations

from bridge.tracing.opening import open_tracing
from bridge.tracing.variables import secrets_in


__all__ = ["open_tracing", "secrets_in"]
