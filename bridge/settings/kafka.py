"""Kafka's group of settings: where it is, how to sign in, how to write."""

from __future__ import annotations

from typing import Annotated, Literal

from bridge.errors import DOCS_URL
from bridge.settings.metadata import (
    EXTENSIONS,
    HOST_PORTS,
    HTTP_URL,
    PEM_FILE,
    REGION,
    Form,
    Section,
    about,
)
from bridge.settings.secret import Secret


__all__ = ["KafkaSettings"]

_LARGEST_INT16 = 2**15 - 1
_LARGEST_INT32 = 2**31 - 1

# A password is sometimes put in a name's place.
_NAME = Form("text that is not empty, without control characters", is_private=True)


class KafkaSettings(Section, frozen=True):
    """Kafka: where it is, how to sign in, how to write."""

    bootstrap_servers: Annotated[
        str,
        about(
            "Bootstrap brokers, host:port with commas between",
            HOST_PORTS,
            because="Kafka's port on this machine",
            flags=("--bootstrap-servers", "--bootstrap-server", "-b"),
        ),
    ] = "localhost:9092"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        about("How connections are secured", because="Kafka's own default"),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"]
        | None,
        about(
            "SASL mechanism, with security protocol SASL_*: see"
            f" {DOCS_URL}/operate/security.md"
        ),
    ] = None
    sasl_username: Annotated[
        str | None, about("SASL user name, for PLAIN and SCRAM", _NAME)
    ] = None
    sasl_password: Annotated[
        Secret | None, about("SASL password, for PLAIN and SCRAM")
    ] = None
    sasl_oauth_token_url: Annotated[
        str | None,
        about("Token endpoint of the OIDC provider, for OAUTHBEARER", HTTP_URL),
    ] = None
    sasl_oauth_client_id: Annotated[
        str | None, about("Client id at the token endpoint, for OAUTHBEARER", _NAME)
    ] = None
    sasl_oauth_client_secret: Annotated[
        Secret | None, about("Client secret at the token endpoint, for OAUTHBEARER")
    ] = None
    sasl_oauth_scope: Annotated[
        str | None, about("Scopes to request, with spaces between, for OAUTHBEARER")
    ] = None
    sasl_oauth_audience: Annotated[
        str | None, about("Audience to request, for OAUTHBEARER")
    ] = None
    sasl_oauth_extensions: Annotated[
        str | None,
        about("SASL extensions that the brokers want beside a token", EXTENSIONS),
    ] = None
    sasl_oauth_ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust at the token endpoint, instead of the "
            "system's",
            PEM_FILE,
        ),
    ] = None
    sasl_aws_region: Annotated[
        str | None, about("AWS region of the cluster, for AWS_MSK_IAM", REGION)
    ] = None
    ssl_ca_file: Annotated[
        str | None,
        about("Certificates (PEM) to trust, instead of the system's", PEM_FILE),
    ] = None
    ssl_cert_file: Annotated[
        str | None,
        about("The bridge's own certificate (PEM), for mutual TLS", PEM_FILE),
    ] = None
    ssl_key_file: Annotated[
        str | None,
        about("Private key (PEM) of the bridge's own certificate", PEM_FILE),
    ] = None
    ssl_key_password: Annotated[Secret | None, about("Password of the private key")] = (
        None
    )
    create_topics: Annotated[
        bool,
        about(
            "Create missing topics", because="topics belong to the cluster's operator"
        ),
    ] = False
    partitions: Annotated[
        int,
        about(
            "Partitions of a topic that the bridge creates",
            because="the number with which throughput was measured",
            ge=1,
            le=_LARGEST_INT32,
        ),
    ] = 6
    replication_factor: Annotated[
        int,
        about(
            "Replicas of a topic that the bridge creates",
            because="the least that survives one broker with two replicas in sync",
            ge=1,
            le=_LARGEST_INT16,
        ),
    ] = 3
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"],
        about(
            "How batches are compressed",
            because="previews are JPEGs in base64: what each codec saves is in "
            f"{DOCS_URL}/consume/previews.md",
        ),
    ] = "none"
    metadata_max_age_seconds: Annotated[
        float,
        about(
            "How often the topics are checked for partitions that were added",
            because="Kafka's own clients check every 5 minutes; one request to one "
            "broker",
            gt=0,
        ),
    ] = 60.0
    request_timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request to a broker",
            because="twice the 9 s after which a cluster replaces a silent broker: by "
            "then its partitions have another leader",
            gt=0,
            # The protocol transmits it as int32 milliseconds.
            le=_LARGEST_INT32 // 1000,
        ),
    ] = 20.0
    linger_ms: Annotated[
        float,
        about(
            "How long events wait for others while they keep arriving; 0: not at all",
            because="Kafka 4's own default of linger.ms; a single event is sent at "
            "once",
            ge=0,
            le=1000,
        ),
    ] = 5.0
    transaction_timeout_seconds: Annotated[
        float,
        about(
            "Longest transaction, with transactional delivery",
            because="a bridge that died delays consumers for as long, and up to 10 s "
            "more; a transaction takes some 4 ms",
            ge=1,
            # Brokers accept up to transaction.max.timeout.ms, 15 minutes by default.
            le=900,
        ),
    ] = 20.0
    resume_quiet_seconds: Annotated[
        float,
        about(
            "Wait before an epoch reads the log to resume, with idempotent delivery",
            because="a leader appends what it has received within milliseconds: 2 s "
            "leave room for a collection pause; a broker that was frozen for longer "
            "can leave a duplicate, with the same ce_id",
            ge=0,
        ),
    ] = 2.0
    start_timeout_seconds: Annotated[
        float,
        about(
            "Longest time to reach Kafka before it counts as unavailable",
            because="three times the 9 s that the slowest measured broker needed",
            gt=0,
        ),
    ] = 30.0
    client_id: Annotated[
        str, about("Name of the bridge in the brokers' logs and quotas")
    ] = "dryapi-kafka-bridge"

    @property
    def linger_seconds(self) -> float:
        """`linger_ms` in seconds."""
        return self.linger_ms / 1000

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All secrets that are set."""
        given = (
            self.sasl_password,
            self.sasl_oauth_client_secret,
            self.ssl_key_password,
        )
        return tuple(secret for secret in given if secret is not None)
