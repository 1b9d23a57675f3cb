"""The faults, and how each is to be told.

They are put in by `planting`; the tests hold a report against these rows.
"""

from __future__ import annotations

from confluent_kafka.admin import AclOperation

from tests.doctor.fault import (
    Fault,
    kafka,
    misplaced,
    refused_by_dryapi,
    warning,
)
from tests.doctor.ground import RIGHTS
from tests.doctor.healing_faults import OF_HEALING
from tests.doctor.holes import closed_port
from tests.doctor.planting import (
    NO_SUBJECT,
    Changes,
    damaged,
    foreign,
    given,
    login_page,
    newer,
    no_certificate,
    no_directory,
    no_tls,
    over_tls,
    registry,
    signed_by_another,
    skewed,
    status,
    topics,
    transactional,
    uncreated,
    web_server,
    without,
)
from tests.registry.scripted import Reply


__all__ = ["FAULTS"]


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
    # What heals gaps
    **OF_HEALING,
}
