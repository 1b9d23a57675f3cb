"""
Kafka's group of settings: where it is, how to sign in, how to write.

Each field carries its whole description in `about`. What goes together
(security protocol, mechanism, files) is judged in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from bridge.settings.about import KIB, LARGEST_INT16, LARGEST_INT32, Section, about
from bridge.settings.secret import Secret


__all__ = ["KafkaSettings"]


class KafkaSettings(Section, frozen=True):
    """Kafka: where it is, how to sign in, how to write."""

    bootstrap_servers: Annotated[
        str,
        about(
            "Brokers to begin with, host:port with commas between",
            because="Kafka's port on this machine",
            expected="host:port, or several with commas between",
            flag="--bootstrap-servers",
        ),
    ] = "localhost:9092"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        about("How connections are secured", because="Kafka's own default"),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"]
        | None,
        about("SASL mechanism, with security protocol SASL_*: see docs/security.md"),
    ] = None
    sasl_username: Annotated[
        str | None, about("SASL user name, for PLAIN and SCRAM")
    ] = None
    sasl_password: Annotated[
        Secret | None,
        about("SASL password, for PLAIN and SCRAM", expected="text that is not empty"),
    ] = None
    sasl_oauth_token_url: Annotated[
        str | None,
        about(
            "Where OAUTHBEARER gets its tokens: the token endpoint of an OIDC provider",
            expected="a URL that begins with https:// or http:// and names a host",
        ),
    ] = None
    sasl_oauth_client_id: Annotated[
        str | None, about("Client id at the token endpoint, for OAUTHBEARER")
    ] = None
    sasl_oauth_client_secret: Annotated[
        Secret | None,
        about(
            "Client secret at the token endpoint, for OAUTHBEARER",
            expected="text that is not empty",
        ),
    ] = None
    sasl_oauth_scope: Annotated[
        str | None,
        about("Scopes to ask the token endpoint for, with spaces between"),
    ] = None
    sasl_oauth_audience: Annotated[
        str | None,
        about("Audience to ask the token endpoint for, where it wants one named"),
    ] = None
    sasl_oauth_extensions: Annotated[
        str | None,
        about(
            "SASL extensions that the brokers want beside a token",
            expected="name=value, several with commas between; names of letters alone",
        ),
    ] = None
    sasl_oauth_ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust at the token endpoint, instead of the "
            "system's",
            expected="the path of a PEM file",
        ),
    ] = None
    sasl_aws_region: Annotated[
        str | None,
        about(
            "AWS region of the cluster, for AWS_MSK_IAM",
            expected="the name of an AWS region, eu-west-1 for instance",
        ),
    ] = None
    ssl_ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust, instead of the system's",
            expected="the path of a PEM file",
        ),
    ] = None
    ssl_cert_file: Annotated[
        str | None,
        about(
            "The bridge's own certificate (PEM), for mutual TLS",
            expected="the path of a PEM file",
        ),
    ] = None
    ssl_key_file: Annotated[
        str | None,
        about(
            "Private key (PEM) of the bridge's own certificate",
            expected="the path of a PEM file",
        ),
    ] = None
    ssl_key_password: Annotated[
        Secret | None,
        about("Password of the private key", expected="text that is not empty"),
    ] = None
    create_topics: Annotated[
        bool,
        about(
            "Create missing topics",
            because="topics belong to whoever runs the cluster",
        ),
    ] = False
    partitions: Annotated[
        int,
        about(
            "Partitions of a topic that the bridge creates",
            because="what the throughput was measured with",
            ge=1,
            le=LARGEST_INT32,
        ),
    ] = 6
    replication_factor: Annotated[
        int,
        about(
            "Replicas of a topic that the bridge creates",
            because="the least that survives one broker with two replicas in sync",
            ge=1,
            le=LARGEST_INT16,
        ),
    ] = 3
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"],
        about(
            "How batches are compressed",
            because="previews are JPEGs in base64: see docs/previews.md for what each "
            "codec saves",
        ),
    ] = "none"
    topics_check_seconds: Annotated[
        float,
        about(
            "How often the topics are looked at for partitions that were added",
            because="Kafka's own clients look every 5 minutes; a request to one broker",
            gt=0,
        ),
    ] = 60.0
    request_timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request to a broker",
            because="twice the 9 s after which a cluster counts a silent broker as "
            "gone: by then its partitions have another leader",
            gt=0,
            # The protocol carries it as int32 milliseconds.
            le=LARGEST_INT32 // 1000,
        ),
    ] = 20.0
    linger_ms: Annotated[
        float,
        about(
            "How long events wait for others while they keep coming; 0 is off",
            because="Kafka 4's own default of linger.ms; one that comes alone is sent "
            "at once",
            ge=0,
            le=1000,
        ),
    ] = 5.0
    transaction_timeout_seconds: Annotated[
        float,
        about(
            "Longest transaction, with transactional delivery",
            because="a bridge that died holds consumers back for as long, and up to "
            "10 s more; a transaction takes some 4 ms",
            ge=1,
            # Brokers take up to transaction.max.timeout.ms, 15 minutes by default.
            le=900,
        ),
    ] = 20.0
    retry_backoff_seconds: Annotated[
        float,
        about(
            "Wait before a request is repeated",
            because="aiokafka's 100 ms wrote 40 log lines a second during an outage",
            gt=0,
            le=LARGEST_INT32 // 1000,
        ),
    ] = 0.5
    max_batch_bytes: Annotated[
        int,
        about(
            "Largest batch of records in one produce request",
            because="half of the broker's default message.max.bytes (1 MiB)",
            ge=KIB,
            le=LARGEST_INT32,
        ),
    ] = 512 * KIB
    resume_quiet_seconds: Annotated[
        float,
        about(
            "Wait before a given-up lane reads the log to resume",
            because="a leader appends what stands in its socket and request queue "
            "within milliseconds, acks=all waits only for replicas: 2 s leave room "
            "for a collection pause; a broker frozen for longer can leave a "
            "duplicate, with the same ce_id",
            ge=0,
        ),
    ] = 2.0
    start_timeout_seconds: Annotated[
        float,
        about(
            "Longest time to reach Kafka at the start with an empty outbox",
            because="three times the 9 s that the slowest measured broker needed",
            gt=0,
        ),
    ] = 30.0
    client_id: Annotated[
        str,
        about("Name of the bridge in the brokers' logs and quotas"),
    ] = "dryapi-kafka-bridge"

    @property
    def linger_seconds(self) -> float:
        """`linger_ms` in seconds."""
        return self.linger_ms / 1000

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All secrets that are set, to be kept out of every output."""
        given = (
            self.sasl_password,
            self.sasl_oauth_client_secret,
            self.ssl_key_password,
        )
        return tuple(secret for secret in given if secret is not None)
