"""
Every setting: its name, type, unit, default, reason and where a value came from.

This is the one source for the command line's help, `bridge config show`, the
documentation and the chart's schema. `model`, `sections` and `kafka` hold the
values' shapes, `catalogue` describes them, `layers` reads flags, environment and file,
`checks`, `sign_in` and `exposure` judge values, `loading` puts them together into
`findings` and `secret` keeps what must not be seen; `exchanged` opens files that are
replaced while the bridge runs. Several accounts are shaped in `accounts` and read in
`listing`. Nothing here starts, connects or writes anything.
"""

from __future__ import annotations

from bridge.settings.accounts import Account, AccountSettings
from bridge.settings.addresses import split_address
from bridge.settings.board import BoardSettings
from bridge.settings.catalogue import Kind, SettingDescription, describe
from bridge.settings.exchanged import Signature, require_regular, signature
from bridge.settings.findings import EffectiveSetting, Inspection, Loaded
from bridge.settings.healing import ReconciliationSettings, WebhookSettings
from bridge.settings.kafka import KafkaSettings
from bridge.settings.layers import Source, SourceKind
from bridge.settings.loading import (
    inspect,
    load,
    load_for_board,
    load_for_reading,
    load_for_replaying,
)
from bridge.settings.model import Settings
from bridge.settings.schema_registry import SchemaRegistrySettings
from bridge.settings.secret import Secret
from bridge.settings.sections import (
    LimitSettings,
    LogSettings,
    OperationsSettings,
    OutboxSettings,
    PusherSettings,
    TopicSettings,
)
from bridge.settings.sign_in import split_extensions
from bridge.settings.tracing import TracingSettings


__all__ = [
    "Account",
    "AccountSettings",
    "BoardSettings",
    "EffectiveSetting",
    "Inspection",
    "KafkaSettings",
    "Kind",
    "LimitSettings",
    "Loaded",
    "LogSettings",
    "OperationsSettings",
    "OutboxSettings",
    "PusherSettings",
    "ReconciliationSettings",
    "SchemaRegistrySettings",
    "Secret",
    "SettingDescription",
    "Settings",
    "Signature",
    "Source",
    "SourceKind",
    "TopicSettings",
    "TracingSettings",
    "WebhookSettings",
    "describe",
    "inspect",
    "load",
    "load_for_board",
    "load_for_reading",
    "load_for_replaying",
    "require_regular",
    "signature",
    "split_address",
    "split_extensions",
]
