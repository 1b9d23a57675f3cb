"""
Whether there is tracing, and what keeps it from being there.

Owns the decision and its errors. OpenTelemetry is imported by `sdk`, and that only
where tracing is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bridge.errors import ConfigError
from bridge.settings import Settings
from bridge.tracing.variables import other_protocol


if TYPE_CHECKING:
    from bridge.tracing.sdk import Tracing


__all__ = ["open_tracing"]


def open_tracing(settings: Settings, environ: Mapping[str, str]) -> Tracing | None:
    """
    Begin tracing, if that is wanted.

    Args:
        settings: All settings.
        environ: The process's variables, of which the SDK reads its own.

    Returns:
        What makes the spans; None where tracing is off.

    Raises:
        ConfigError: The extra is missing, or a variable is not one that can be used.
    """
    if not settings.tracing.enabled:
        return None
    if protocol := other_protocol(environ):
        raise ConfigError(
            f"{protocol} names a protocol that the bridge doesn't speak: spans go out"
            " as http/protobuf, mostly to a collector's port 4318"
        )
    try:
        # An extra, and 0.3 s to import.
        from bridge.tracing.sdk import Tracing  # noqa: PLC0415

        return Tracing(settings.kafka.client_id)
    except ImportError as error:
        raise ConfigError(
            "tracing.enabled (BRIDGE_TRACING_ENABLED) needs OpenTelemetry, which is"
            " not installed: pip install 'dryapi-kafka-bridge[tracing]'"
            f" (no module {error.name})"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        # Its text may repeat what the variable held.
        raise ConfigError(
            "an OTEL_* variable can't be used, as OpenTelemetry's SDK says with"
            f" {type(error).__name__}: look at those of the exporter, of OTEL_BSP_* and"
            " of OTEL_SPAN_*; docs/tracing.md names them"
        ) from None
