"""
The settings as one value, with the fields that belong to no group.

Groups stand in `sections` and `kafka`. How values are found, merged and
judged together stands in `loading` and `checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from bridge.settings.about import (
    API_TOKEN_EXPECTED,
    CLIENT_ID_EXPECTED,
    TOPIC_EXPECTED,
    ClientId,
    Section,
    TopicName,
    about,
)
from bridge.settings.accounts import Account, AccountSettings
from bridge.settings.board import BoardSettings
from bridge.settings.healing import ReconciliationSettings, WebhookSettings
from bridge.settings.kafka import KafkaSettings
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
from bridge.settings.tracing import TracingSettings


__all__ = ["Settings"]


class Settings(Section, frozen=True):
    """
    All settings of the bridge.

    `client_id` and `api_token` are None where `accounts` lists others instead, and
    in what `load_for_reading` gives: `all_accounts` has them either way.
    """

    topic: Annotated[
        TopicName,
        about("Kafka topic for job events", expected=TOPIC_EXPECTED, flag="--topic"),
    ] = "jobs"
    client_id: Annotated[
        ClientId | None,
        about(
            "Your dryAPI client id, from its dashboard",
            expected=CLIENT_ID_EXPECTED,
            flag="--client-id",
            required=True,
        ),
    ] = None
    api_token: Annotated[
        Secret | None,
        about(
            "Your dryAPI API token",
            expected=API_TOKEN_EXPECTED,
            required=True,
        ),
    ] = None
    api_url: Annotated[
        str,
        about(
            "dryAPI's base URL, for authorisation and status",
            because="dryAPI's documentation",
            expected="a URL that begins with https:// or http:// and names a host",
            flag="--api-url",
        ),
    ] = "https://api.dryapi.dev"
    delivery: Annotated[
        Literal["idempotent", "transactional"],
        about(
            "What the writes to Kafka promise: see docs/delivery.md",
            because="a partition without leader delays only itself in this mode, and "
            "no consumer waits for a bridge that died",
        ),
    ] = "idempotent"
    previews: Annotated[
        Literal["inline", "drop", "topic"],
        about(
            "Where previews go: with their event, nowhere, or to a topic of their own; "
            "see docs/previews.md",
            because="the event's own bytes go through untouched",
        ),
    ] = "inline"
    after_terminal: Annotated[
        Literal["dead-letter", "publish"],
        about(
            "What becomes of an event that comes after its job's last one",
            because="the last record of a key is right for good: a compacted topic "
            "holds how each job ended",
        ),
    ] = "dead-letter"
    allow_cleartext_credentials: Annotated[
        bool,
        about(
            "Send passwords and tokens to other machines without TLS",
            because="whoever listens on the way could use them",
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
        """The accounts to run, listed or single; after `load` at least one."""
        if self.accounts:
            return tuple(
                Account(one.client_id, one.api_token, one.webhook_secret)
                for one in self.accounts
            )
        if self.client_id is None or self.api_token is None:
            return ()
        return (Account(self.client_id, self.api_token, self.webhook.secret),)

    def hide_secrets(self, hide: Callable[[str], None]) -> None:
        """
        Have all secrets hidden, as they are now and as their files will have them.

        Args:
            hide: Is told each value; of several webhook secrets in one text each one.
        """

        def hide_each(text: str) -> None:
            for one in text.split():
                hide(one)

        for secret in (*self.kafka.secrets, self.schema_registry.password):
            if secret is not None:
                secret.hide_with(hide)
        for account in self.all_accounts:
            account.api_token.hide_with(hide)
            if account.webhook_secret is not None:
                account.webhook_secret.hide_with(hide_each)

    @property
    def dead_letter_topic(self) -> str:
        """The topic for events that don't conform."""
        return self.topics.dead_letters or f"{self.topic}.dlq"

    @property
    def gap_topic(self) -> str:
        """The topic for the ledger of gaps."""
        return self.topics.gaps or f"{self.topic}.gaps"

    @property
    def preview_topic(self) -> str:
        """The topic for previews, where `previews` is `topic`."""
        return self.topics.previews or f"{self.topic}.previews"
