"""The faults, and how each is to be told.

They are put in by `planting`; the tests hold a report against these rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka.admin._acl import AclOperation

from bridge.doctor import Outcome
from bridge.errors import ExitCode
from tests.doctor.ground import RIGHTS
from tests.doctor.holes import closed_port
from tests.doctor.planting import (
    NO_SUBJECT,
    Changes,
    Make,
    damaged,
    foreign,
    given,
    login_page,
    newer,
    no_certificate,
    no_directory,
    no_tls,
    of_job,
    over_tls,
    registry,
    shown,
    signed_by_another,
    skewed,
    status,
    taken_port,
    topics,
    transactional,
    uncreated,
    web_server,
    webhooks,
    without,
)
from tests.registry.scripted import Reply


__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes:
        make: Puts it in and gives the variables that lead to it.
        step: The step that is to name it.
        words: What its detail or remedy has to contain, each.
        outcome: How that step is to come out.
        exit_code: What the whole is to exit with.
    """

    make: Make
    step: str
    words: tuple[str, ...]
    outcome: Outcome = Outcome.FAILURE
    exit_code: ExitCode = ExitCode.FAILED


def kafka(make: Make, step: str, *words: str) -> Fault:
    """Give a fault of Kafka's: the bridge ends with 4."""
    return Fault(make, step, words, exit_code=ExitCode.REFUSED_BY_KAFKA)


def warning(make: Make, step: str, *words: str) -> Fault:
    """Give a fault with which the bridge works."""
    return Fault(make, step, words, Outcome.WARNING, ExitCode.CLEAN)


def refused_by_dryapi(make: Make, step: str, *words: str) -> Fault:
    """Give a fault for which dryAPI sends the bridge away: it ends with 3."""
    return Fault(make, step, words, exit_code=ExitCode.REFUSED_BY_DRYAPI)


def misplaced(make: Make, step: str, *words: str) -> Fault:
    """Give a fault of this machine's: the bridge ends with 2."""
    return Fault(make, step, words, exit_code=ExitCode.USAGE)


_PUSHER, _API = "BRIDGE_PUSHER_URL", "BRIDGE_API_URL"
_NOBODY = "no-such-host.invalid"
_WRITE, _READ = AclOperation.WRITE, AclOperation.READ
_SIZE = "max.message.bytes"

# Nobody signs in.
_OPENLY: Changes = {
    "BRIDGE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "BRIDGE_KAFKA_SASL_MECHANISM": None,
    "BRIDGE_KAFKA_SASL_USERNAME": None,
    "BRIDGE_KAFKA_SASL_PASSWORD": None,
}

FAULTS: dict[str, Fault] = {
    # Settings
    "a CA file that is none": misplaced(
        no_certificate, "settings", "BRIDGE_PUSHER_CA_FILE"
    ),
    "a variable that is misspelt": warning(
        given(TOPC="jobs"), "settings", "BRIDGE_TOPC"
    ),
    # The Pusher server
    "an unknown Pusher host": Fault(
        given(PUSHER_URL=f"wss://{_NOBODY}"), "pusher.dns", (_NOBODY, _PUSHER)
    ),
    "a closed Pusher port": Fault(
        lambda _: {_PUSHER: f"ws://127.0.0.1:{closed_port()}"},
        "pusher.tcp",
        ("Connection refused", _PUSHER),
    ),
    "a Pusher server without TLS": Fault(
        no_tls(_PUSHER, "wss"), "pusher.tls", ("no TLS", "ws://")
    ),
    "a Pusher certificate that has expired": Fault(
        over_tls(_PUSHER, "wss", "127.0.0.1", "127.0.0.1", days=-1),
        "pusher.tls",
        ("certificate has expired", "Renew it"),
    ),
    "a Pusher certificate for another name": Fault(
        over_tls(_PUSHER, "wss", "127.0.0.1", "other.example"),
        "pusher.tls",
        ("another name", _PUSHER),
    ),
    "a Pusher certificate of a private authority": Fault(
        over_tls(_PUSHER, "wss", "127.0.0.1", "127.0.0.1", trusted=False),
        "pusher.tls",
        ("nobody that is trusted", "BRIDGE_PUSHER_CA_FILE"),
    ),
    "a web server for a Pusher server": Fault(
        web_server(_PUSHER, "ws://127.0.0.1:{}"),
        "pusher.handshake",
        ("HTTP 404", _PUSHER),
    ),
    "an unknown app key": refused_by_dryapi(
        given(PUSHER_APP_KEY="no-such-key"),
        "pusher.handshake",
        "4001",
        "BRIDGE_PUSHER_APP_KEY",
    ),
    # The API
    "an unknown API host": Fault(
        given(API_URL=f"https://{_NOBODY}"), "api.dns", (_NOBODY, _API)
    ),
    "a closed API port": Fault(
        lambda _: {_API: f"http://127.0.0.1:{closed_port()}"},
        "api.tcp",
        ("Connection refused", _API),
    ),
    "an API without TLS": Fault(
        no_tls(_API, "https"), "api.tls", ("no TLS", "http://")
    ),
    "an API certificate that has expired": Fault(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", days=-1),
        "api.tls",
        ("certificate has expired", "Renew it"),
    ),
    "an API certificate for another name": Fault(
        over_tls(_API, "https", "127.0.0.1", "other.example"),
        "api.tls",
        ("another name", _API),
    ),
    "an API certificate of a private authority": Fault(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", trusted=False),
        "api.tls",
        ("nobody that is trusted", "BRIDGE_PUSHER_CA_FILE"),
    ),
    "an API certificate that ends soon": warning(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", days=3),
        "api.tls",
        "ends in 2 d",
        "Renew it",
    ),
    "a broker for an API": Fault(
        lambda ground: {_API: f"http://{ground.guarded.bootstrap_servers}"},
        "api.http",
        ("speaks no HTTP", _API),
    ),
    # Accounts
    "a token that is refused": refused_by_dryapi(
        status(401), "authorization", "401", "BRIDGE_API_TOKEN"
    ),
    "a channel of another account": refused_by_dryapi(
        status(403), "authorization", "403", "BRIDGE_CLIENT_ID"
    ),
    "an auth endpoint that fails": Fault(
        status(500), "authorization", ("HTTP 500", "It may pass")
    ),
    "an auth endpoint that isn't there": Fault(
        status(404), "authorization", ("HTTP 404", _API)
    ),
    "a login page for a signature": Fault(
        login_page, "authorization", ("text/html", "is not JSON", _API)
    ),
    "an API of another deployment": refused_by_dryapi(
        signed_by_another, "subscription", "refused channel private-client.42"
    ),
    # The status endpoint
    "a token that may not ask for a status": warning(
        of_job(401), "status", "refuses the token", "401", "BRIDGE_API_TOKEN"
    ),
    "no calls left this day": warning(
        of_job(
            429,
            {
                "X-RateLimit-Type": "daily",
                "X-RateLimit-Remaining": "50",
                "X-RateLimit-Limit": "50",
                "X-RateLimit-Daily-Remaining": "0",
                "X-RateLimit-Daily-Limit": "200",
            },
        ),
        "status",
        "the calls of this day are used up",
        "50 of 50 calls of this minute and 0 of 200 calls of this day",
    ),
    "no calls left this minute": warning(
        of_job(429, {"Retry-After": "7"}),
        "status",
        "the calls of this minute are used up",
    ),
    "a status endpoint that fails": warning(
        of_job(500), "status", "HTTP 500", "It may pass", "would not be asked about"
    ),
    "a status endpoint that knows every job": warning(
        of_job(200), "status", "a job that nobody has", _API
    ),
    # The clock
    "a clock that is far behind": warning(
        skewed(600), "clock", "s behind dryAPI", "webhooks would be refused", "NTP"
    ),
    "a clock that is ahead": warning(skewed(-60), "clock", "s ahead of dryAPI", "NTP"),
    "an API without time": warning(skewed(None), "clock", "no time", "NTP"),
    # Brokers and signing in
    "an unknown broker": kafka(
        given(
            KAFKA_BOOTSTRAP_SERVERS=f"{_NOBODY}:9092",
            KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        ),
        "kafka.dns",
        _NOBODY,
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    "a closed broker port": kafka(
        lambda _: {"BRIDGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed_port()}"},
        "kafka.tcp",
        "Connection refused",
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    "one closed port of two": warning(
        lambda ground: {
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": (
                f"127.0.0.1:{closed_port()},{ground.guarded.guarded_servers}"
            )
        },
        "kafka.tcp",
        "Connection refused",
        "others of the list answer",
    ),
    "a web server for a broker": kafka(
        web_server("BRIDGE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:{}"),
        "kafka.broker",
        "web server",
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    "a wrong password": kafka(
        given(KAFKA_SASL_PASSWORD="canary-of-a-typo"),
        "kafka.sasl",
        "refuses to let 'bridge' in",
        "BRIDGE_KAFKA_SASL_PASSWORD",
    ),
    "a mechanism that the broker lacks": kafka(
        given(KAFKA_SASL_MECHANISM="SCRAM-SHA-512"),
        "kafka.sasl",
        "PLAIN",
        "BRIDGE_KAFKA_SASL_MECHANISM",
    ),
    "TLS that the broker lacks": kafka(
        given(KAFKA_SECURITY_PROTOCOL="SASL_SSL"),
        "kafka.tls",
        "no TLS",
        "BRIDGE_KAFKA_SECURITY_PROTOCOL",
        "SASL_PLAINTEXT",
    ),
    "a sign-in that the broker doesn't want": kafka(
        lambda ground: {
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": ground.guarded.bootstrap_servers
        },
        "kafka.sasl",
        "asks nobody to sign in",
        "BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    "no sign-in where the broker wants one": kafka(
        lambda _: _OPENLY,
        "kafka.broker",
        "wants its clients to sign in",
        "BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    # Topics and rights
    "no topic of jobs": kafka(
        topics(missing=["jobs"]), "kafka.topics", "not there", "kafka-topics.sh"
    ),
    "no topic of dead letters": kafka(
        topics(missing=["letters"]), "kafka.topics", "letters-", "--create"
    ),
    "no topic of gaps": kafka(
        topics(missing=["gaps"]), "kafka.topics", "gaps-", "kafka.create_topics"
    ),
    "a topic that nobody may create": kafka(
        uncreated, "kafka.topics", "would not let this user create", "Grant Create"
    ),
    "no right to write events": kafka(
        without("jobs", _WRITE), "kafka.acls", "lacks Write", "--operation Write"
    ),
    "no right to read events back": kafka(
        without("jobs", _READ), "kafka.acls", "lacks Read", "--operation Read"
    ),
    "no right to write dead letters": kafka(
        without("letters", _WRITE), "kafka.acls", "lacks Write", "--topic letters-"
    ),
    "no right to write gaps": kafka(
        without("gaps", _WRITE), "kafka.acls", "lacks Write", "--topic gaps-"
    ),
    "no right at all on a topic": kafka(
        without("jobs", *RIGHTS), "kafka.topics", "forbids", "Grant"
    ),
    "no right to see what a topic is like": warning(
        without("gaps", AclOperation.DESCRIBE_CONFIGS),
        "kafka.acls",
        "lacks DescribeConfigs",
        "--operation DescribeConfigs",
    ),
    "no right to transactional ids": kafka(
        transactional,
        "kafka.transactions",
        "refuses a transactional producer",
        "Grant the user Write and Describe",
    ),
    "a topic for small records alone": kafka(
        topics(configs={"jobs": {_SIZE: "1000"}}), "kafka.sizes", _SIZE, "kafka-configs"
    ),
    "dead letters smaller than events": warning(
        topics(configs={"jobs": {_SIZE: "2000000"}}), "kafka.sizes", _SIZE, "letters-"
    ),
    "gaps that are compacted": warning(
        topics(configs={"gaps": {"cleanup.policy": "compact"}}),
        "kafka.topics",
        "cleanup.policy",
        "kafka-configs",
    ),
    "more replicas in sync than there are": warning(
        topics(configs={"jobs": {"min.insync.replicas": "2"}}),
        "kafka.topics",
        "min.insync.replicas",
        "kafka-configs",
    ),
    "an hour's retention": warning(
        topics(configs={"jobs": {"retention.ms": "3600000"}}),
        "kafka.topics",
        "retention.ms",
        "kafka-configs",
    ),
    "times that the broker makes up": warning(
        topics(configs={"jobs": {"message.timestamp.type": "LogAppendTime"}}),
        "kafka.topics",
        "message.timestamp.type",
        "kafka-configs",
    ),
    # The Schema Registry
    "no schema": kafka(
        registry(NO_SUBJECT), "schema_registry", "no schema", "Register it"
    ),
    "a registry that refuses": kafka(
        registry(Reply(401, b"{}")),
        "schema_registry",
        "HTTP 401",
        "BRIDGE_SCHEMA_REGISTRY_USERNAME",
    ),
    "a registry that fails": kafka(
        registry(Reply(503, b"{}")),
        "schema_registry",
        "HTTP 503",
        "BRIDGE_SCHEMA_REGISTRY_URL",
    ),
    "a login page for a registry": kafka(
        registry(Reply(200, b"<html>")), "schema_registry", "doesn't speak"
    ),
    "a closed registry port": kafka(
        lambda _: {"BRIDGE_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{closed_port()}"},
        "schema_registry",
        "can't be asked",
        "BRIDGE_SCHEMA_REGISTRY_URL",
    ),
    # Webhooks
    "a webhook port that another one has": misplaced(
        taken_port, "webhook.port", "in use by another process", "BRIDGE_WEBHOOK_LISTEN"
    ),
    "a webhook address of another machine": misplaced(
        lambda _: webhooks(LISTEN="192.0.2.1:8443"),
        "webhook.port",
        "no such address",
        "BRIDGE_WEBHOOK_LISTEN",
    ),
    "a webhook certificate with another key": misplaced(
        shown(key_of_another=True),
        "webhook.tls",
        "can't be used",
        "BRIDGE_WEBHOOK_TLS_KEY_FILE",
    ),
    "a webhook certificate that has expired": Fault(
        shown(days=-1),
        "webhook.tls",
        ("certificate has expired", "BRIDGE_WEBHOOK_TLS_CERT_FILE"),
    ),
    "a webhook certificate that ends soon": warning(
        shown(days=3), "webhook.tls", "ends in 2 d", "picks them up"
    ),
    "a webhook secret that is none": warning(
        lambda _: webhooks("canary-of-a-token"),
        "webhook.secret",
        "whsec_",
        "BRIDGE_WEBHOOK_SECRET_FILE",
    ),
    "one of two webhook secrets that is none": warning(
        lambda _: webhooks("whsec_canary canary-of-a-token"),
        "webhook.secret",
        "1 of 2",
    ),
    # The outbox
    "a file for the outbox directory": misplaced(
        no_directory, "outbox.directory", "Not a directory", "BRIDGE_OUTBOX_DIR"
    ),
    "a damaged outbox": Fault(
        damaged, "outbox.file", ("not a readable outbox", "Copy the directory")
    ),
    "an outbox of a newer version": Fault(
        newer, "outbox.file", ("format", "un the version that wrote it")
    ),
    "a database that is no outbox": Fault(
        foreign, "outbox.file", ("no outbox", "a directory of its own")
    ),
}
