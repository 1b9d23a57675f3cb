"""Whether there is tracing, and what is said where there can't be."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

from bridge.errors import ConfigError
from bridge.settings import Settings, TracingSettings
from bridge.tracing import open_tracing, secrets_in


ON = Settings(tracing=TracingSettings(enabled=True))


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.trace", "requests"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start says what to install, and ends as any wrong setting does."""
    for name in [*sys.modules]:
        if name.startswith(("bridge.tracing.sdk", "opentelemetry")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError) as caught:
        open_tracing(ON, {})
    assert "'dryapi-kafka-bridge[tracing]'" in str(caught.value)
    assert "BRIDGE_TRACING_ENABLED" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "canary7d1f"),
    ],
)
def test_a_variable_that_the_sdk_refuses_is_a_wrong_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that explains it is named; the value isn't repeated."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"docs/tracing\.md") as caught:
        open_tracing(ON, {})
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "refused"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
    ],
)
def test_another_protocol_is_refused(environ: Mapping[str, str], refused: str) -> None:
    """Spans would go to a port that answers nothing that can be understood."""
    with pytest.raises(ConfigError, match=f"{refused} .*http/protobuf"):
        open_tracing(ON, environ)


def test_secrets_of_the_exporter_are_known() -> None:
    """What the SDK and its HTTP client may log is hidden by value."""
    found = set(
        secrets_in(
            {
                "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20one,x-key=two",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "three",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://four:five@host/v1?token=six",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://[",
            }
        )
    )
    assert found - {""} == {
        "Bearer%20one",
        "Bearer one",
        "two",
        "three",
        "four",
        "five",
        "token=six",
    }
