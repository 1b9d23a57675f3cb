"""
The groups of settings for what heals gaps: dryAPI's status endpoint and its webhooks.

Each field carries its whole description in `about`. What goes together is judged in
`checks`.
"""

from __future__ import annotations

from typing import Annotated

from bridge.settings.about import KIB, Section, about
from bridge.settings.addresses import split_address
from bridge.settings.secret import Secret


__all__ = ["WEBHOOK_SECRET_EXPECTED", "ReconciliationSettings", "WebhookSettings"]

WEBHOOK_SECRET_EXPECTED = (
    "one or several webhook secrets from dryAPI's dashboard, with spaces or line ends"  # noqa: S105 - words
    " between them"
)


class ReconciliationSettings(Section, frozen=True):
    """What dryAPI's status endpoint is asked: after gaps, and of silent jobs."""

    enabled: Annotated[
        bool,
        about(
            "Ask dryAPI's status endpoint about jobs whose end the socket may have "
            "missed",
            because="without webhooks nothing else can tell",
        ),
    ] = True
    reserve_percent: Annotated[
        int,
        about(
            "How many percent of the account's calls, of a minute and of a day, are "
            "left to your own programs",
            because="the limits are an account's, and its owner asks as well",
            ge=0,
            le=100,
        ),
    ] = 25
    silent_after_seconds: Annotated[
        float,
        about(
            "How long a job says nothing before it is asked about without a gap",
            because="a running job is heard of every few seconds, and a queue holds "
            "it for minutes; the socket never tells that a job has failed",
            gt=0,
        ),
    ] = 600.0
    request_timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request to the status endpoint",
            because="a connection and one answer; as long as connecting may take",
            gt=0,
        ),
    ] = 10.0
    give_up_seconds: Annotated[
        float,
        about(
            "How long the status endpoint may give no answer before the jobs of a gap "
            "count as unknown",
            because="an incident or a deployment of dryAPI's passes within minutes",
            ge=0,
        ),
    ] = 900.0


class WebhookSettings(Section, frozen=True):
    """What takes dryAPI's webhooks; off without an address."""

    listen: Annotated[
        str | None,
        about(
            "Address that takes dryAPI's webhooks, at /webhooks/dryapi, or with listed "
            "accounts at /webhooks/dryapi/{client_id}",
            expected="host:port, for instance 0.0.0.0:8443",
            default_text="off",
        ),
    ] = None
    secret: Annotated[
        Secret | None,
        about(
            "The account's webhook secret; several of them during a rotation",
            expected=WEBHOOK_SECRET_EXPECTED,
        ),
    ] = None
    hold_seconds: Annotated[
        float,
        about(
            "How long a webhook waits on disk for the socket's own event of the job",
            because="the socket's event has a preview, and comes within seconds",
            ge=0,
        ),
    ] = 10.0
    max_body_bytes: Annotated[
        int,
        about(
            "Largest body of a webhook; a larger one is refused",
            because="dryAPI's have some hundred bytes and an error's text; a thousand "
            "such at once are 128 MiB",
            ge=KIB,
        ),
    ] = 128 * KIB
    max_connections: Annotated[
        int,
        about(
            "How many connections are open at once; further ones wait",
            because="some 30 MB of memory; dryAPI's senders are few",
            ge=1,
        ),
    ] = 1000
    keep_deliveries_seconds: Annotated[
        float,
        about(
            "How long a delivery's id is remembered, so that none counts twice",
            because="25 h: dryAPI repeats a webhook for about a day",
            ge=0,
        ),
    ] = 90_000.0
    max_deliveries: Annotated[
        int,
        about(
            "How many deliveries' ids are remembered at most, the latest ones",
            because="about 140 MB of disk; two webhooks of a million jobs a day",
            ge=1,
        ),
    ] = 2_000_000
    tls_cert_file: Annotated[
        str | None,
        about(
            "Certificate chain (PEM) of the port, where TLS ends in the bridge",
            expected="the path of a PEM file",
            default_text="none: something before the port ends TLS",
        ),
    ] = None
    tls_key_file: Annotated[
        str | None,
        about(
            "The certificate's key (PEM), without a password",
            expected="the path of a PEM file",
        ),
    ] = None

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port; None where it is off."""
        return None if self.listen is None else split_address(self.listen)
