"""The settings as one value: every setting with its type, default and description."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bridge.errors import DOCS_URL
from bridge.settings.kafka import KafkaSettings
from bridge.settings.metadata import (
    API_TOKEN,
    APP_KEY,
    CLIENT_ID,
    GIB,
    HOST_PORT,
    HOSTS,
    HTTP_URL,
    KIB,
    MIB,
    PEM_FILE,
    TOPIC,
    WEBHOOK_SECRETS,
    WS_URL,
    Form,
    Section,
    about,
    split_address,
)
from bridge.settings.secret import Secret


__all__ = [
    "Account",
    "AccountSettings",
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
]

# A topic takes batches of 1,048,588 bytes by default (`max.message.bytes`); the
# difference is for the key, the headers and the batch's own framing.
_FITS_A_TOPIC = 1_000_000

_LARGEST_INT32 = 2**31 - 1


class TopicSettings(Section, frozen=True):
    """The names of the topics beside the main one."""

    dead_letters: Annotated[
        str | None,
        about("Topic for events that don't conform", TOPIC, default_text="{topic}.dlq"),
    ] = None
    gaps: Annotated[
        str | None,
        about("Topic for gap records", TOPIC, default_text="{topic}.gaps"),
    ] = None
    previews: Annotated[
        str | None,
        about(
            "Topic for previews, with previews = topic",
            TOPIC,
            default_text="{topic}.previews",
        ),
    ] = None


class LimitSettings(Section, frozen=True):
    """The size of records; checked against each topic at the start."""

    event_bytes: Annotated[
        int,
        about(
            "Largest job event; a larger one is sent without its preview, or becomes a "
            "dead letter. A dead letter is cut off here",
            because="fits a topic's default max.message.bytes, with its headers",
            ge=KIB,
            le=_LARGEST_INT32,
        ),
    ] = _FITS_A_TOPIC
    preview_bytes: Annotated[
        int,
        about(
            "Largest preview on a topic of its own, decoded; a larger one becomes a "
            "dead letter",
            because="fits a topic's default max.message.bytes, with its headers",
            ge=KIB,
            le=_LARGEST_INT32,
        ),
    ] = _FITS_A_TOPIC


class PusherSettings(Section, frozen=True):
    """The session with dryAPI's Pusher server."""

    url: Annotated[
        str,
        about(
            "Pusher server, ws:// or wss://",
            WS_URL,
            because="dryAPI's documentation: soketi.dryapi.dev, 443, TLS",
            flags=("--pusher-url",),
        ),
    ] = "wss://soketi.dryapi.dev:443"
    app_key: Annotated[
        str,
        about(
            "App key of the Pusher server", APP_KEY, because="dryAPI's documentation"
        ),
    ] = "depin-api-prod-key"
    ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust for wss:// and dryAPI's https://, instead of "
            "the system's",
            PEM_FILE,
        ),
    ] = None
    activity_timeout_seconds: Annotated[
        float,
        about(
            "Longest time between two pings of the bridge; the server's shorter one "
            "wins",
            because="soketi's and Reverb's default, a quarter of soketi's idle limit "
            "of 120 s",
            gt=0,
        ),
    ] = 30.0
    timeout_seconds: Annotated[
        float,
        about(
            "Longest wait for one answer: connection, pong, subscription, "
            "authorization",
            because="three repeats of a lost TCP SYN (after 1, 3, 7 s); the protocol's "
            "30 s for a pong would leave a dead socket unnoticed for 60 s",
            gt=0,
        ),
    ] = 10.0
    refused_timeout_seconds: Annotated[
        float,
        about(
            "How long dryAPI may refuse an account that once worked before the refusal "
            "is final",
            because="an incident or a deployment of dryAPI passes within minutes",
            ge=0,
        ),
    ] = 300.0
    probe_interval_seconds: Annotated[
        float,
        about(
            "How often the subscription is repeated, to prove that it exists; 0: never",
            because="a few bytes; a lost subscription is noticed within minutes",
            ge=0,
        ),
    ] = 240.0
    max_message_bytes: Annotated[
        int,
        about(
            "Largest WebSocket message; a larger one ends the connection",
            because="soketi was measured to send frames of 15 MB",
            ge=KIB,
        ),
    ] = 16 * MIB


def default_outbox_dir() -> Path:
    """Return the outbox's directory in the user's state directory."""
    # Imported when needed: most commands have no outbox.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_state_path("dryapi-kafka-bridge") / "outbox"


class OutboxSettings(Section, frozen=True):
    """What has been read and is not yet in Kafka."""

    dir: Annotated[
        Path,
        about(
            "Directory of the outbox, on a local disk, for one bridge only",
            Form("the path of a directory"),
            because="survives a reboot and needs only the user's own permissions",
            default_text="a state directory of the user",
            flags=("--outbox-dir",),
        ),
    ] = msgspec.field(default_factory=default_outbox_dir)
    buffer_bytes: Annotated[
        int,
        about(
            "Events in memory between socket and disk",
            because="8 s of 2,000 events of 1 KiB a second while the disk hangs",
            ge=1,
        ),
    ] = 16 * MIB
    max_bytes: Annotated[
        int,
        about(
            "Largest size of the outbox on disk, database and WAL",
            because="an hour of 2,000 events of 1 KiB a second without Kafka",
            ge=1,
        ),
    ] = 8 * GIB


class ReconciliationSettings(Section, frozen=True):
    """Calls to dryAPI's status endpoint, after gaps and about stale jobs."""

    enabled: Annotated[
        bool,
        about(
            "Ask dryAPI's status endpoint about jobs whose end may have been missed",
            because="without webhooks there is no other source",
        ),
    ] = True
    reserve_percent: Annotated[
        int,
        about(
            "Percentage of the account's calls, of a minute and of a day, that is left "
            "to other programs",
            because="the limits belong to the account, whose owner calls as well",
            ge=0,
            le=100,
        ),
    ] = 25
    stale_after_seconds: Annotated[
        float,
        about(
            "Time without an event after which a job is asked about without a gap",
            because="a running job sends events every few seconds, and a queue holds "
            "it for minutes; the socket never reports that a job has failed",
            gt=0,
        ),
    ] = 600.0
    give_up_seconds: Annotated[
        float,
        about(
            "How long the status endpoint may fail before a gap's jobs are unknown",
            because="an incident or a deployment of dryAPI passes within minutes",
            ge=0,
        ),
    ] = 900.0


class WebhookSettings(Section, frozen=True):
    """The port for dryAPI's webhooks; off without an address."""

    listen: Annotated[
        str | None,
        about(
            "Address for dryAPI's webhooks, at /webhooks/dryapi, or with [[accounts]] "
            "at /webhooks/dryapi/{client_id}",
            HOST_PORT,
            default_text="off",
        ),
    ] = None
    secret: Annotated[
        Secret | None,
        about(
            "The account's webhook secret; several of them during a rotation",
            WEBHOOK_SECRETS,
        ),
    ] = None
    grace_period_seconds: Annotated[
        float,
        about(
            "How long a webhook waits on disk for the socket's own event of the job",
            because="the socket's event has a preview, and arrives within seconds",
            ge=0,
        ),
    ] = 10.0
    tls_cert_file: Annotated[
        str | None,
        about(
            "Certificate chain (PEM) of the port, if the bridge ends TLS",
            PEM_FILE,
            default_text="none: a proxy before the port ends TLS",
        ),
    ] = None
    tls_key_file: Annotated[
        str | None,
        about("The certificate's key (PEM), without a password", PEM_FILE),
    ] = None

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port; None where it is off."""
        return None if self.listen is None else split_address(self.listen)


class SchemaRegistrySettings(Section, frozen=True):
    """A Schema Registry whose wire format values get; off without a URL."""

    url: Annotated[
        str | None,
        about(
            "Schema Registry; values get its wire format", HTTP_URL, default_text="off"
        ),
    ] = None
    username: Annotated[
        str | None, about("User name for the registry, or an API key")
    ] = None
    password: Annotated[Secret | None, about("Password for the registry")] = None
    ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust for https://, instead of the system's",
            PEM_FILE,
        ),
    ] = None
    subject_naming: Annotated[
        Literal["topic", "record", "topic-record"],
        about(
            "The name of a schema's subject: {topic}-value, {title} or {topic}-{title}",
            because="Confluent's own default, TopicNameStrategy",
        ),
    ] = "topic"
    register: Annotated[
        bool,
        about(
            "Register schemas that the registry doesn't have, instead of only looking "
            "them up",
            because="schemas belong to the registry's operator",
        ),
    ] = False
    timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request to the registry",
            because="one small answer; as long as connecting to dryAPI may take",
            gt=0,
        ),
    ] = 10.0


class OperationsSettings(Section, frozen=True):
    """Health and metrics."""

    listen: Annotated[
        str,
        about(
            "Address of /livez, /readyz and /metrics",
            HOST_PORT,
            because="visible on this machine only",
        ),
    ] = "127.0.0.1:8080"
    hosts: Annotated[
        str | None,
        about(
            "Public names of the port, with commas between",
            HOSTS,
            because="addresses and names of private networks are accepted anyway; "
            "another name may be another site's that resolves to here",
        ),
    ] = None

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as host and port."""
        return split_address(self.listen)


class LogSettings(Section, frozen=True):
    """Logs."""

    format: Annotated[
        Literal["console", "json"] | None,
        about("Format of log lines", default_text="console on a terminal, else json"),
    ] = None
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        about("Minimum log level", because="normal operation logs little"),
    ] = "info"


class TracingSettings(Section, frozen=True):
    """OpenTelemetry spans, and `traceparent` on records."""

    enabled: Annotated[
        bool,
        about(
            "Make spans and add a traceparent to records; needs the extra tracing. "
            f"OTEL_* variables set where spans are sent: see {DOCS_URL}/tracing.md",
            because="it costs more than everything else that is done with an event",
        ),
    ] = False


class BoardSettings(Section, frozen=True):
    """The page of `bridge board`, which is a process of its own."""

    listen: Annotated[
        str,
        about(
            "Address of the page",
            HOST_PORT,
            because="visible on this machine only",
            flags=("--listen",),
        ),
    ] = "127.0.0.1:8090"
    hosts: Annotated[
        str | None,
        about(
            "Other names of the page, with commas between",
            HOSTS,
            because="an unknown name may be another site's that resolves to here",
        ),
    ] = None
    since_seconds: Annotated[
        int,
        about(
            "How far back reading starts",
            because="enough to see how the present came about, and read within seconds",
            ge=0,
        ),
    ] = 900
    show_results: Annotated[
        bool,
        about(
            "Show result URLs, with their signatures",
            because="a client that has such a URL can fetch the result",
        ),
    ] = False


class Account(msgspec.Struct, frozen=True):
    """
    An account of dryAPI, which has a session of its own.

    Attributes:
        client_id: Its name; its channel is `private-client.{client_id}`.
        api_token: Authorizes its channel and status calls.
        webhook_secret: Signs its webhooks, one or several; None if the bridge accepts
            no webhooks of it.
    """

    client_id: str
    api_token: Secret
    webhook_secret: Secret | None = None


class AccountSettings(Section, frozen=True):
    """One of several accounts, instead of the one client_id and its api_token."""

    client_id: Annotated[
        str,
        about(
            "The account's dryAPI client id, unique in the list",
            CLIENT_ID,
            required=True,
        ),
    ]
    api_token: Annotated[
        Secret, about("The account's dryAPI API token", API_TOKEN, required=True)
    ]
    webhook_secret: Annotated[
        Secret | None,
        about(
            "The account's webhook secret; several of them during a rotation",
            WEBHOOK_SECRETS,
        ),
    ] = None


class Settings(Section, frozen=True):
    """
    All settings of the bridge.

    `client_id` and `api_token` are None where `accounts` lists others, and where
    `load` had a scope without accounts: `all_accounts` has them either way.
    """

    topic: Annotated[
        str, about("Kafka topic for job events", TOPIC, flags=("--topic", "-t"))
    ] = "jobs"
    client_id: Annotated[
        str | None,
        about(
            "Your dryAPI client id, from its dashboard",
            CLIENT_ID,
            flags=("--client-id",),
            required=True,
        ),
    ] = None
    api_token: Annotated[
        Secret | None, about("Your dryAPI API token", API_TOKEN, required=True)
    ] = None
    api_url: Annotated[
        str,
        about(
            "dryAPI's base URL, for authorization and status",
            HTTP_URL,
            because="dryAPI's documentation",
            flags=("--api-url",),
        ),
    ] = "https://api.dryapi.dev"
    delivery: Annotated[
        Literal["idempotent", "transactional"],
        about(
            f"What writes to Kafka guarantee: see {DOCS_URL}/delivery.md",
            because="a partition without a leader delays only itself in this mode, and "
            "consumers never wait for a bridge that died",
        ),
    ] = "idempotent"
    previews: Annotated[
        Literal["inline", "drop", "topic"],
        about(
            "Where previews go: with their event, nowhere, or to a topic of their own; "
            f"see {DOCS_URL}/consume/previews.md",
            because="the event's own bytes pass through untouched",
        ),
    ] = "inline"
    after_terminal: Annotated[
        Literal["dead-letter", "publish"],
        about(
            "What becomes of an event that arrives after its job's terminal one",
            because="the last record of a key is final: a compacted topic holds how "
            "each job ended",
        ),
    ] = "dead-letter"
    allow_cleartext_credentials: Annotated[
        bool,
        about(
            "Send passwords and tokens to other machines without TLS",
            because="every machine on the path could read them",
        ),
    ] = False
    topics: TopicSettings = msgspec.field(default_factory=TopicSettings)
    limits: LimitSettings = msgspec.field(default_factory=LimitSettings)
    pusher: PusherSettings = msgspec.field(default_factory=PusherSettings)
    kafka: KafkaSettings = msgspec.field(default_factory=KafkaSettings)
    schema_registry: SchemaRegistrySettings = msgspec.field(
        default_factory=SchemaRegistrySettings
    )
    outbox: OutboxSettings = msgspec.field(default_factory=OutboxSettings)
    reconciliation: ReconciliationSettings = msgspec.field(
        default_factory=ReconciliationSettings
    )
    webhook: WebhookSettings = msgspec.field(default_factory=WebhookSettings)
    operations: OperationsSettings = msgspec.field(default_factory=OperationsSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    tracing: TracingSettings = msgspec.field(default_factory=TracingSettings)
    board: BoardSettings = msgspec.field(default_factory=BoardSettings)
    accounts: tuple[AccountSettings, ...] = ()
    shutdown_timeout_seconds: Annotated[
        float,
        about(
            "How long a stop waits for the outbox to reach Kafka",
            because="two thirds of the 30 s that Kubernetes grants a pod",
            ge=0,
        ),
    ] = 20.0

    @property
    def all_accounts(self) -> tuple[Account, ...]:
        """The accounts to run, listed or single; one at least in a service's scope."""
        if self.accounts:
            return tuple(
                Account(one.client_id, one.api_token, one.webhook_secret)
                for one in self.accounts
            )
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
