"""Kafka's group of settings: where it is, how to sign in, how to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from bridge.errors import DOCS_URL
from bridge.settings.secret import Secret
from bridge.settings.setting import (
    EXTENSIONS,
    HOST_PORTS,
    HTTP_URL,
    PEM_FILE,
    PRIVATE_TEXT,
    REGION,
    setting,
)


__all__ = ["KafkaSettings"]

_LARGEST_INT16 = 2**15 - 1
_LARGEST_INT32 = 2**31 - 1


Mechanism: TypeAlias = Literal[
    "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"
]


@dataclass(frozen=True, kw_only=True)
class KafkaSettings:
    """Kafka: where it is, how to sign in, how to write."""

    bootstrap_servers: str = setting(
        "Bootstrap brokers, host:port with commas between",
        HOST_PORTS,
        default="localhost:9092",
        because="Kafka's port on this machine",
        flags=("--bootstrap-servers", "--bootstrap-server", "-b"),
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = (
        setting(
            "How connections are secured",
            default="PLAINTEXT",
            because="Kafka's own default",
        )
    )
    sasl_mechanism: Mechanism | None = setting(
        "SASL mechanism, with security protocol SASL_*: see"
        f" {DOCS_URL}/operate/security.md"
    )
    sasl_username: str | None = setting(
        "SASL user name, for PLAIN and SCRAM", PRIVATE_TEXT
    )
    sasl_password: Secret | None = setting("SASL password, for PLAIN and SCRAM")
    sasl_oauth_token_url: str | None = setting(
        "Token endpoint of the OIDC provider, for OAUTHBEARER", HTTP_URL
    )
    sasl_oauth_client_id: str | None = setting(
        "Client id at the token endpoint, for OAUTHBEARER", PRIVATE_TEXT
    )
    sasl_oauth_client_secret: Secret | None = setting(
        "Client secret at the token endpoint, for OAUTHBEARER"
    )
    sasl_oauth_scope: str | None = setting(
        "Scopes to request, with spaces between, for OAUTHBEARER"
    )
    sasl_oauth_audience: str | None = setting("Audience to request, for OAUTHBEARER")
    sasl_oauth_extensions: str | None = setting(
        "SASL extensions that the brokers want beside a token", EXTENSIONS
    )
    sasl_oauth_ca_file: str | None = setting(
        "Certificates (PEM) to trust at the token endpoint, instead of the system's",
        PEM_FILE,
    )
    sasl_aws_region: str | None = setting(
        "AWS region of the cluster, for AWS_MSK_IAM", REGION
    )
    ssl_ca_file: str | None = setting(
        "Certificates (PEM) to trust, instead of the system's", PEM_FILE
    )
    ssl_cert_file: str | None = setting(
        "The bridge's own certificate (PEM), for mutual TLS", PEM_FILE
    )
    ssl_key_file: str | None = setting(
        "Private key (PEM) of the bridge's own certificate", PEM_FILE
    )
    ssl_key_password: Secret | None = setting("Password of the private key")
    create_topics: bool = setting(
        "Create missing topics",
        default=False,
        because="topics belong to the cluster's operator",
    )
    partitions: int = setting(
        "Partitions of a topic that the bridge creates",
        default=6,
        because="the number with which throughput was measured",
        minimum=1,
        maximum=_LARGEST_INT32,
    )
    replication_factor: int = setting(
        "Replicas of a topic that the bridge creates",
        default=3,
        because="the least that survives one broker with two replicas in sync",
        minimum=1,
        maximum=_LARGEST_INT16,
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "How batches are compressed",
        default="none",
        because="previews are JPEGs in base64: what each codec saves is in "
        f"{DOCS_URL}/consume/previews.md",
    )
    linger_ms: float = setting(
        "How long events wait for others while they keep arriving; 0: not at all",
        default=5.0,
        because="Kafka 4's own default of linger.ms; a single event is sent at once",
        minimum=0,
        maximum=1000,
    )
    client_id: str = setting(
        "Name of the bridge in the brokers' logs and quotas",
        default="dryapi-kafka-bridge",
    )

    # Not settings: no operator can choose them better.

    metadata_max_age_seconds: float = 60.0
    """How often topics are checked; Kafka's own clients do it every 5 minutes."""

    request_timeout_seconds: float = 20.0
    """Of one request: twice the 9 s after which a cluster replaces a silent broker."""

    transaction_timeout_seconds: float = 20.0
    """A bridge that died delays consumers as long; a transaction takes some 4 ms."""

    resume_quiet_seconds: float = 2.0
    """
    Wait before an idempotent epoch reads the log: leaders append what they received
    within milliseconds; one that was frozen for longer can leave a duplicate.
    """

    start_timeout_seconds: float = 30.0
    """To reach Kafka at all; the slowest measured broker needed 9 s."""

    @property
    def linger_seconds(self) -> float:
        """`linger_ms` in seconds."""
        return self.linger_ms / 1000
