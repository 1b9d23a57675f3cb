"""
The groups of settings but Kafka's: topics, pusher, outbox, operations, log.

Each field carries its whole description in `about`. How values are found and
judged together stands in `loading` and `checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bridge.settings.about import (
    GIB,
    KIB,
    LARGEST_INT32,
    MIB,
    TOPIC_EXPECTED,
    AppKey,
    Section,
    TopicName,
    about,
)
from bridge.settings.addresses import split_address


__all__ = [
    "LimitSettings",
    "LogSettings",
    "OperationsSettings",
    "OutboxSettings",
    "PusherSettings",
    "TopicSettings",
]


class TopicSettings(Section, frozen=True):
    """The names of the topics beside the main one."""

    dead_letters: Annotated[
        TopicName | None,
        about(
            "Topic for events that don't conform",
            expected=TOPIC_EXPECTED,
            default_text="{topic}.dlq",
        ),
    ] = None
    gaps: Annotated[
        TopicName | None,
        about(
            "Topic for the ledger of gaps",
            expected=TOPIC_EXPECTED,
            default_text="{topic}.gaps",
        ),
    ] = None
    previews: Annotated[
        TopicName | None,
        about(
            "Topic for previews, where previews is topic",
            expected=TOPIC_EXPECTED,
            default_text="{topic}.previews",
        ),
    ] = None


# A topic takes batches of 1,048,588 bytes by default (`max.message.bytes`); the
# difference is room for key, headers and the batch's own framing.
_FITS_A_TOPIC = 1_000_000


class LimitSettings(Section, frozen=True):
    """How large what goes to Kafka may be; checked against each topic at the start."""

    event_bytes: Annotated[
        int,
        about(
            "Largest job event; a larger one goes without its preview, or becomes a "
            "dead letter",
            because="fits a topic's default max.message.bytes, with its headers",
            ge=KIB,
            le=LARGEST_INT32,
        ),
    ] = _FITS_A_TOPIC
    preview_bytes: Annotated[
        int,
        about(
            "Largest preview on a topic of its own, decoded; a larger one becomes a "
            "dead letter",
            because="fits a topic's default max.message.bytes, with its headers",
            ge=KIB,
            le=LARGEST_INT32,
        ),
    ] = _FITS_A_TOPIC
    dead_letter_bytes: Annotated[
        int,
        about(
            "Of a larger dead letter only the first part is kept",
            because="fits a topic's default max.message.bytes, with its headers",
            ge=KIB,
            le=LARGEST_INT32,
        ),
    ] = _FITS_A_TOPIC


class PusherSettings(Section, frozen=True):
    """The session with dryAPI's Pusher server."""

    url: Annotated[
        str,
        about(
            "Pusher server, ws:// or wss://",
            because="dryAPI's documentation: soketi.dryapi.dev, 443, TLS",
            expected="a URL that begins with wss:// or ws:// and names a host",
            flag="--pusher-url",
        ),
    ] = "wss://soketi.dryapi.dev:443"
    app_key: Annotated[
        AppKey,
        about(
            "App key of the Pusher server",
            because="dryAPI's documentation",
            expected="a Pusher app key: not empty, without spaces, '/', '?' and '#'",
        ),
    ] = "depin-api-prod-key"
    ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust for wss://, instead of the system's",
            expected="the path of a PEM file",
        ),
    ] = None
    connect_timeout_seconds: Annotated[
        float,
        about(
            "Longest time from the first packet to connection_established",
            because="leaves room for three repeats of a lost TCP SYN (after 1, 3, 7 s)",
            gt=0,
        ),
    ] = 10.0
    activity_timeout_seconds: Annotated[
        float,
        about(
            "Longest time between two of the bridge's pings; the server's shorter "
            "one wins",
            because="soketi's and Reverb's default, a quarter of soketi's "
            "idle limit of 120 s",
            gt=0,
        ),
    ] = 30.0
    pong_timeout_seconds: Annotated[
        float,
        about(
            "Longest wait for a pong before the connection counts as dead",
            because="the protocol's 30 s would leave a deaf socket unseen for 60 s; "
            "a pong is one round trip",
            gt=0,
        ),
    ] = 10.0
    subscribe_timeout_seconds: Annotated[
        float,
        about(
            "Longest wait for the acknowledgement of a subscription",
            because="one round trip; as long as a pong may take",
            gt=0,
        ),
    ] = 10.0
    authorization_timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request for a channel's authorisation",
            because="a connection and one answer; as long as connecting may take",
            gt=0,
        ),
    ] = 10.0
    backoff_initial_seconds: Annotated[
        float,
        about(
            "First wait before another connection attempt; doubles, with jitter",
            because="keeps a server that always closes below 10 attempts in 10 s",
            gt=0,
        ),
    ] = 0.5
    backoff_max_seconds: Annotated[
        float,
        about(
            "Longest wait before another connection attempt",
            because="pusher-js's second wait; nothing is replayed, so longer ones cost "
            "events",
            gt=0,
        ),
    ] = 30.0
    stable_after_seconds: Annotated[
        float,
        about(
            "Uptime after which the next wait starts from the first again",
            because="one activity timeout survived",
            ge=0,
        ),
    ] = 30.0
    refused_timeout_seconds: Annotated[
        float,
        about(
            "How long a session that once worked is refused before it counts as "
            "refused for good; the token is read again for each try",
            because="an incident or a deployment of dryAPI's passes within minutes",
            ge=0,
        ),
    ] = 300.0
    probe_interval_seconds: Annotated[
        float,
        about(
            "How often the subscription is repeated, to prove that it exists; 0: never",
            because="a few bytes; deafness is noticed within minutes",
            ge=0,
        ),
    ] = 240.0
    probe_silence_seconds: Annotated[
        float,
        about(
            "Silence after which it is repeated at once while jobs are in flight",
            because="a running job is heard of every few seconds",
            gt=0,
        ),
    ] = 60.0
    max_message_bytes: Annotated[
        int,
        about(
            "Largest WebSocket message that is read; a larger one ends the connection",
            because="soketi was measured to send frames of 15 MB",
            ge=KIB,
        ),
    ] = 16 * MIB


def default_outbox_dir() -> Path:
    """Where the outbox lies unless somebody says otherwise: the user's state."""
    # Imported when needed: most commands have no outbox.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_state_path("dryapi-kafka-bridge") / "outbox"


class OutboxSettings(Section, frozen=True):
    """What has been read and is not yet safely in Kafka."""

    dir: Annotated[
        Path,
        about(
            "Directory of the outbox, on a local disk, for one bridge alone",
            because="survives a reboot and needs no right beyond the user's own",
            expected="the path of a directory",
            default_text="a state directory of the user",
            flag="--outbox-dir",
        ),
    ] = msgspec.field(default_factory=default_outbox_dir)
    buffer_bytes: Annotated[
        int,
        about(
            "Events in memory on their way from the socket to the disk",
            because="8 s of 2,000 events of 1 KiB while the disk stands still",
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
    keep_acked_seconds: Annotated[
        float,
        about(
            "How long acknowledged rows stay on disk",
            because="what a log lost after it was acknowledged (unclean election, "
            "restored broker) is noticed minutes later, and is still here then",
            ge=0,
        ),
    ] = 300.0
    keep_acked_bytes: Annotated[
        int,
        about(
            "How many bytes of acknowledged rows stay at most",
            because="small beside the outbox's limit",
            ge=0,
        ),
    ] = 256 * MIB
    max_jobs_in_flight: Annotated[
        int,
        about(
            "How many unfinished jobs are remembered at most, the latest ones",
            because="about 20 MB of memory; an hour of 13 jobs a second that all fail, "
            "which the socket never tells",
            ge=1,
        ),
    ] = 50_000
    keep_jobs_seconds: Annotated[
        float,
        about(
            "How long an unfinished job is remembered that nothing is heard of",
            because="dryAPI's result URLs last about a day",
            gt=0,
        ),
    ] = 86_400.0
    keep_ended_seconds: Annotated[
        float,
        about(
            "How long it is remembered which jobs have ended, so that nothing comes "
            "after a job's last record",
            because="25 h: dryAPI repeats a webhook for about a day",
            ge=0,
        ),
    ] = 90_000.0
    max_ended_jobs: Annotated[
        int,
        about(
            "How many ended jobs are remembered at most, the latest ones",
            because="28 MB of memory and 16 MB of disk; twice a million jobs a day",
            ge=1,
        ),
    ] = 2_000_000


class OperationsSettings(Section, frozen=True):
    """Health and metrics."""

    listen: Annotated[
        str,
        about(
            "Address of /livez, /readyz and /metrics",
            because="only this machine sees it unless somebody opens it",
            expected="host:port, for instance 0.0.0.0:8080",
        ),
    ] = "127.0.0.1:8080"
    hosts: Annotated[
        str | None,
        about(
            "Public names by which the port is reached, with commas between",
            because="addresses, and names of private networks, are accepted anyway; "
            "another name may be a foreign site's that leads here",
            expected="names or addresses without ports, with commas between",
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
        about("Shape of log lines", default_text="console on a terminal, else json"),
    ] = None
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        about("Least level that is logged", because="normal operation says little"),
    ] = "info"
