"""
Every setting: its name, type, unit, default, help, and where a value came from.

This is the only source of the command line's help, `bridge config`, the documentation
and the chart's schema. `model` and `kafka` declare and list the settings, `sources`
reads flags, environment and file, `checks` finds contradictions, `loading` puts
everything together.
"""

from __future__ import annotations

from bridge.settings.kafka import KafkaSettings
from bridge.settings.loading import (
    EffectiveSetting,
    Inspection,
    Loaded,
    Scope,
    inspect,
    load,
)
from bridge.settings.model import (
    Account,
    BoardSettings,
    LimitSettings,
    LogSettings,
    OperationsSettings,
    OutboxSettings,
    PusherSettings,
    ReconciliationSettings,
    SchemaRegistrySettings,
    Settings,
    TopicSettings,
    TracingSettings,
    WebhookSettings,
    account_settings,
    all_settings,
)
from bridge.settings.secret import Secret, Signature, require_regular, signature
from bridge.settings.setting import Setting, split_address, split_extensions
from bridge.settings.sources import Source, SourceKind


__all__ = [
    "Account",
    "BoardSettings",
    "EffectiveSetting",
    "Inspection",
    "KafkaSettings",
    "LimitSettings",
    "Loaded",
    "LogSettings",
    "OperationsSettings",
    "OutboxSettings",
    "PusherSettings",
    "ReconciliationSettings",
    "SchemaRegistrySettings",
    "Scope",
    "Secret",
    "Setting",
    "Settings",
    "Signature",
    "Source",
    "SourceKind",
    "TopicSettings",
    "TracingSettings",
    "WebhookSettings",
    "account_settings",
    "all_settings",
    "inspect",
    "load",
    "require_regular",
    "signature",
    "split_address",
    "split_extensions",
]
