"""
The settings as one value: every setting with its type, default and description.

`all_settings` lists them: help, documentation and the chart's schema are made from it.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import msgspec

from bridge.errors import DOCS_URL
from bridge.settings.kafka import KafkaSettings
from bridge.settings.secret import Secret
from bridge.settings.setting import (
    API_TOKEN,
    APP_KEY,
    CLIENT_ID,
    HOST_PORT,
    HOSTS,
    HTTP_URL,
    PEM_FILE,
    TOPIC,
    WEBHOOK_SECRETS,
    WS_URL,
    Form,
    Setting,
    setting,
    split_address,
)


__all__ = [
    "Account",
    "BoardSettings",
    "LimitSettings",
    "LogSettings",
    "OperationsSettings",
    "OutboxSettings",
    "PusherSettings",
    "ReconciliationSettings",
    "SchemaRegistrySettings",
    "Settings",
    "TopicSettings",
    "TracingSettings",
    "WebhookSettings",
    "account_settings",
    "all_settings",
    "by_path",
    "sections",
]

# A topic takes batches of 1,048,588 bytes by default (`max.message.bytes`); the
# difference is for the key, the headers and the batch's own framing.
_FITS_A_TOPIC = 1_000_000

_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class TopicSettings:
    """The names of the topics beside the main one."""

    dead_letters: str | None = setting(
        "Topic for events that don't conform", TOPIC, default_words="{topic}.dlq"
    )
    gaps: str | None = setting(
        "Topic for gap records", TOPIC, default_words="{topic}.gaps"
    )
    previews: str | None = setting(
        "Topic for previews, with previews = topic",
        TOPIC,
        default_words="{topic}.previews",
    )


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """The size of records; checked against each topic at the start."""

    event_bytes: int = setting(
        "Largest job event; a larger one is sent without its preview, or becomes a "
        "dead letter. A dead letter is cut off here",
        default=_FITS_A_TOPIC,
        because="fits a topic's default max.message.bytes, with its headers",
        minimum=1024,
        maximum=_LARGEST_INT32,
    )
    preview_bytes: int = setting(
        "Largest preview on a topic of its own, decoded; a larger one becomes a "
        "dead letter",
        default=_FITS_A_TOPIC,
        because="fits a topic's default max.message.bytes, with its headers",
        minimum=1024,
        maximum=_LARGEST_INT32,
    )


@dataclass(frozen=True, kw_only=True)
class PusherSettings:
    """The session with dryAPI's Pusher server."""

    url: str = setting(
        "Pusher server, ws:// or wss://",
        WS_URL,
        default="wss://soketi.dryapi.dev:443",
        because="dryAPI's documentation: soketi.dryapi.dev, 443, TLS",
        flags=("--pusher-url",),
    )
    app_key: str = setting(
        "App key of the Pusher server",
        APP_KEY,
        default="depin-api-prod-key",
        because="dryAPI's documentation",
    )
    ca_file: str | None = setting(
        "Certificates (PEM) to trust for wss:// and dryAPI's https://, instead of "
        "the system's",
        PEM_FILE,
    )
    probe_interval_seconds: float = setting(
        "How often the subscription is repeated, to prove that it exists; 0: never",
        default=240.0,
        because="a few bytes; a lost subscription is noticed within minutes",
        minimum=0,
    )

    # Not settings: no operator can choose them better.

    activity_timeout_seconds: float = 30.0
    """Longest time between two pings: soketi's default; a server's shorter one wins."""

    timeout_seconds: float = 10.0
    """
    For one answer: three repeats of a lost TCP SYN (after 1, 3, 7 s). The protocol's
    30 s for a pong would leave a dead socket unnoticed for 60 s.
    """

    refused_timeout_seconds: float = 300.0
    """Until the refusal of an account that once worked is final: incidents pass."""


def default_outbox_dir() -> Path:
    """Return the outbox's directory in the user's state directory."""
    # Imported when needed: most commands have no outbox.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_state_path("dryapi-kafka-bridge") / "outbox"


@dataclass(frozen=True, kw_only=True)
class OutboxSettings:
    """What has been read and is not yet in Kafka."""

    dir: Path = setting(
        "Directory of the outbox, on a local disk, for one bridge only",
        Form("the path of a directory"),
        default_factory=default_outbox_dir,
        because="survives a reboot and needs only the user's own permissions",
        default_words="a state directory of the user",
        flags=("--outbox-dir",),
    )
    buffer_bytes: int = setting(
        "Events in memory between socket and disk",
        default=16 * 1024**2,
        because="8 s of 2,000 events of 1 KiB a second while the disk hangs",
        minimum=1,
    )
    max_bytes: int = setting(
        "Largest size of the outbox on disk, database and WAL",
        default=8 * 1024**3,
        because="an hour of 2,000 events of 1 KiB a second without Kafka",
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class ReconciliationSettings:
    """Calls to dryAPI's status endpoint, after gaps and about stale jobs."""

    enabled: bool = setting(
        "Ask dryAPI's status endpoint about jobs whose end may have been missed",
        default=True,
        because="without webhooks there is no other source",
    )
    reserve_percent: int = setting(
        "Percentage of the account's calls, of a minute and of a day, that is left "
        "to other programs",
        default=25,
        because="the limits belong to the account, whose owner calls as well",
        minimum=0,
        maximum=100,
    )
    stale_after_seconds: float = setting(
        "Time without an event after which a job is asked about without a gap",
        default=600.0,
        because="a running job sends events every few seconds, and a queue holds "
        "it for minutes; the socket never reports that a job has failed",
        exclusive_minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """The port for dryAPI's webhooks; off without an address."""

    listen: str | None = setting(
        "Address for dryAPI's webhooks, at /webhooks/dryapi, or with [[accounts]] "
        "at /webhooks/dryapi/{client_id}",
        HOST_PORT,
        default_words="off",
    )
    secret: Secret | None = setting(
        "The account's webhook secret; several of them during a rotation",
        WEBHOOK_SECRETS,
    )
    grace_period_seconds: float = setting(
        "How long a webhook waits on disk for the socket's own event of the job",
        default=10.0,
        because="the socket's event has a preview, and arrives within seconds",
        minimum=0,
    )
    tls_cert_file: str | None = setting(
        "Certificate chain (PEM) of the port, if the bridge ends TLS",
        PEM_FILE,
        default_words="none: a proxy before the port ends TLS",
    )
    tls_key_file: str | None = setting(
        "The certificate's key (PEM), without a password", PEM_FILE
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port; None where it is off."""
        return None if self.listen is None else split_address(self.listen)


@dataclass(frozen=True, kw_only=True)
class SchemaRegistrySettings:
    """A Schema Registry whose wire format values get; off without a URL."""

    url: str | None = setting(
        "Schema Registry; values get its wire format", HTTP_URL, default_words="off"
    )
    username: str | None = setting("User name for the registry, or an API key")
    password: Secret | None = setting("Password for the registry")
    ca_file: str | None = setting(
        "Certificates (PEM) to trust for https://, instead of the system's", PEM_FILE
    )
    subject_naming: Literal["topic", "record", "topic-record"] = setting(
        "The name of a schema's subject: {topic}-value, {title} or {topic}-{title}",
        default="topic",
        because="Confluent's own default, TopicNameStrategy",
    )
    register: bool = setting(
        "Register schemas that the registry doesn't have, instead of only looking "
        "them up",
        default=False,
        because="schemas belong to the registry's operator",
    )


@dataclass(frozen=True, kw_only=True)
class OperationsSettings:
    """Health and metrics."""

    listen: str = setting(
        "Address of /livez, /readyz and /metrics",
        HOST_PORT,
        default="127.0.0.1:8080",
        because="visible on this machine only",
    )
    hosts: str | None = setting(
        "Public names of the port, with commas between",
        HOSTS,
        because="addresses and names of private networks are accepted anyway; "
        "another name may be another site's that resolves to here",
    )

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as host and port."""
        return split_address(self.listen)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Logs."""

    format: Literal["console", "json"] | None = setting(
        "Format of log lines", default_words="console on a terminal, else json"
    )
    level: Literal["debug", "info", "warning", "error"] = setting(
        "Minimum log level", default="info", because="normal operation logs little"
    )


@dataclass(frozen=True, kw_only=True)
class TracingSettings:
    """OpenTelemetry spans, and `traceparent` on records."""

    enabled: bool = setting(
        "Make spans and add a traceparent to records; needs the extra tracing. "
        "OTEL_* variables set where spans are sent:"
        f" see {DOCS_URL}/operate/tracing.md",
        default=False,
        because="it costs more than everything else that is done with an event",
    )


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """The page of `bridge board`, which is a process of its own."""

    listen: str = setting(
        "Address of the page",
        HOST_PORT,
        default="127.0.0.1:8090",
        because="visible on this machine only",
        flags=("--listen",),
    )
    hosts: str | None = setting(
        "Other names of the page, with commas between",
        HOSTS,
        because="an unknown name may be another site's that resolves to here",
    )
    since_seconds: int = setting(
        "How far back reading starts",
        default=900,
        because="enough to see how the present came about, and read within seconds",
        minimum=0,
    )
    show_results: bool = setting(
        "Show result URLs, with their signatures",
        default=False,
        because="a client that has such a URL can fetch the result",
    )


@dataclass(frozen=True)
class Account:
    """An account of dryAPI, which has a session of its own."""

    client_id: str = setting(
        "The account's dryAPI client id, unique in the list",
        CLIENT_ID,
        default=MISSING,
        required=True,
    )
    api_token: Secret = setting(
        "The account's dryAPI API token", API_TOKEN, default=MISSING, required=True
    )
    webhook_secret: Secret | None = setting(
        "The account's webhook secret; several of them during a rotation",
        WEBHOOK_SECRETS,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    All settings of the bridge.

    `client_id` and `api_token` are None where `accounts` lists others, and where
    `load` had a scope without accounts: `all_accounts` has them either way.
    """

    topic: str = setting(
        "Kafka topic for job events", TOPIC, default="jobs", flags=("--topic", "-t")
    )
    client_id: str | None = setting(
        "Your dryAPI client id, from its dashboard",
        CLIENT_ID,
        flags=("--client-id",),
        required=True,
    )
    api_token: Secret | None = setting(
        "Your dryAPI API token", API_TOKEN, required=True
    )
    api_url: str = setting(
        "dryAPI's base URL, for authorization and status",
        HTTP_URL,
        default="https://api.dryapi.dev",
        because="dryAPI's documentation",
        flags=("--api-url",),
    )
    delivery: Literal["idempotent", "transactional"] = setting(
        f"What writes to Kafka guarantee: see {DOCS_URL}/evaluate/guarantees.md",
        default="idempotent",
        because="a partition without a leader delays only itself in this mode, and "
        "consumers never wait for a bridge that died",
    )
    previews: Literal["inline", "drop", "topic"] = setting(
        "Where previews go: with their event, nowhere, or to a topic of their own; "
        f"see {DOCS_URL}/consume/previews.md",
        default="inline",
        because="the event's own bytes pass through untouched",
    )
    after_terminal: Literal["dead-letter", "publish"] = setting(
        "What becomes of an event that arrives after its job's terminal one",
        default="dead-letter",
        because="the last record of a key is final: a compacted topic holds how "
        "each job ended",
    )
    allow_cleartext_credentials: bool = setting(
        "Send passwords and tokens to other machines without TLS",
        default=False,
        because="every machine on the path could read them",
    )
    topics: TopicSettings = TopicSettings()
    limits: LimitSettings = LimitSettings()
    pusher: PusherSettings = field(default_factory=PusherSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    reconciliation: ReconciliationSettings = ReconciliationSettings()
    webhook: WebhookSettings = WebhookSettings()
    operations: OperationsSettings = OperationsSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    board: BoardSettings = BoardSettings()
    accounts: tuple[Account, ...] = ()
    shutdown_timeout_seconds: float = setting(
        "How long a stop waits for the outbox to reach Kafka",
        default=20.0,
        because="two thirds of the 30 s that Kubernetes grants a pod",
        minimum=0,
    )

    @property
    def all_accounts(self) -> tuple[Account, ...]:
        """The accounts to run, listed or single; one at least in a service's scope."""
        if self.accounts:
            return self.accounts
        if self.client_id is None or self.api_token is None:
            return ()
        return (Account(self.client_id, self.api_token, self.webhook.secret),)

    @property
    def dead_letter_topic(self) -> str:
        """The topic for events that don't conform."""
        return self.topics.dead_letters or f"{self.topic}.dlq"

    @property
    def gap_topic(self) -> str:
        """The topic for gap records."""
        return self.topics.gaps or f"{self.topic}.gaps"

    @property
    def preview_topic(self) -> str:
        """The topic for previews, where `previews` is `topic`."""
        return self.topics.previews or f"{self.topic}.previews"


# -- The list --------------------------------------------------------------------------


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """List all settings: required ones, those without a section, then the others."""
    found = list(_settings_of(Settings, ""))
    # TOML wants values before tables, too.
    found.sort(key=lambda setting: (not setting.required, "." in setting.path))
    return tuple(found)


def account_settings(position: int) -> tuple[Setting, ...]:
    """List the settings of one account of `[[accounts]]`; positions begin with 1."""
    return tuple(
        msgspec.structs.replace(setting, account=position)
        for setting in _settings_of(Account, f"accounts[{position}].")
    )


@functools.cache
def by_path() -> dict[str, Setting]:
    """Return all settings by path."""
    return {setting.path: setting for setting in all_settings()}


@functools.cache
def sections() -> dict[str, type[Any]]:
    """Return the sections (tables in TOML), by name."""
    hints = typing.get_type_hints(Settings)
    return {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and is_dataclass(kind)
    }


def _settings_of(owner: type[Any], prefix: str) -> Iterator[Setting]:
    hints = typing.get_type_hints(owner)
    for one in fields(owner):
        if one.name in sections():
            yield from _settings_of(hints[one.name], f"{prefix}{one.name}.")
        elif one.metadata:
            # The parts of `X | None`, or a Literal's values.
            parts = typing.get_args(hints[one.name])
            kind = parts[0] if NoneType in parts else hints[one.name]
            yield msgspec.structs.replace(
                one.metadata["setting"],
                path=prefix + one.name,
                type=kind,
                optional=NoneType in parts,
                choices=typing.get_args(kind),
            )
