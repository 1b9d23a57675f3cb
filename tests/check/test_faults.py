"""Each fault is reported by the step that meets it, and by no other one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from confluent_kafka.admin import AclOperation

from bridge.check.report import Outcome, Report
from bridge.errors import ExitCode
from tests.check.ground import RIGHTS, Changes, Ground, Servers, check_told
from tests.check.planting import (
    API,
    NO_SUBJECT,
    PUSHER,
    SERVERS,
    Make,
    at,
    at_api,
    begin_with_something_else,
    black_hole,
    break_down,
    closed_port,
    config,
    damaged,
    deaf_port,
    foreign,
    forget_the_subscription,
    given,
    login_page,
    newer,
    no_authority,
    no_certificate,
    no_directory,
    of_job,
    only_complain,
    openly,
    over_tls,
    own_certificate,
    refuse_the_connection,
    registry,
    say_nothing,
    shown,
    signed_by_another,
    signing_in,
    skewed,
    status,
    stranger,
    taken_port,
    thinking,
    topics,
    uncreated,
    webhooks,
    without,
    wrong_audience,
)
from tests.kit.dryapi import AUTH, STATUS
from tests.kit.scripted import Peer, closing, spoken
from tests.schemas.scripted import Reply


@dataclass(frozen=True)
class Fault:
    """A fault: what puts it in, the step that reports it, and words of its line."""

    make: Make
    told: str
    outcome: Outcome = Outcome.FAILURE
    exit_code: ExitCode = ExitCode.FAILED
    # What a Pusher server does with each connection.
    script: Callable[[trio.abc.Stream], Awaitable[None]] | None = None


failure = Fault
warning = partial(Fault, outcome=Outcome.WARNING, exit_code=ExitCode.CLEAN)
# The bridge exits with 4, 3 and 2.
kafka = partial(Fault, exit_code=ExitCode.REFUSED_BY_KAFKA)
refused_by_dryapi = partial(Fault, exit_code=ExitCode.REFUSED_BY_DRYAPI)
misplaced = partial(Fault, exit_code=ExitCode.USAGE)


def after_upgrade(script: Callable[[Peer], Awaitable[None]], told: str) -> Fault:
    """Give a fault of a Pusher server that takes the upgrade."""
    return Fault(given(), told, script=spoken(script))


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(300)

_AT_ONCE = 6
_PAGE = Path(__file__).parents[2] / "docs" / "operate" / "check.md"

_NOBODY = "no-such-host.invalid"
_WRITE, _READ = AclOperation.WRITE, AclOperation.READ
_SIZE = "max.message.bytes"
_USED_UP = {
    "X-RateLimit-Type": "daily",
    "X-RateLimit-Remaining": "50",
    "X-RateLimit-Limit": "50",
    "X-RateLimit-Daily-Remaining": "0",
    "X-RateLimit-Daily-Limit": "200",
}

FAULTS: list[Fault] = [
    # Settings
    misplaced(no_certificate, "settings|BRIDGE_PUSHER_CA_FILE"),
    warning(given(TOPC="jobs"), "settings|BRIDGE_TOPC"),
    # The Pusher server
    failure(given(PUSHER_URL=f"wss://{_NOBODY}"), f"pusher.dns|{_NOBODY}|{PUSHER}"),
    failure(
        at(PUSHER, "ws://127.0.0.1:{}", closed_port),
        f"pusher.tcp|Connection refused|{PUSHER}",
    ),
    failure(at_api(PUSHER, "wss://127.0.0.1:{}"), "pusher.tls|no TLS|ws://"),
    failure(
        over_tls(PUSHER, "wss", days=-1),
        "pusher.tls|certificate has expired|Renew it",
    ),
    failure(
        over_tls(PUSHER, "wss", "other.example"), f"pusher.tls|another name|{PUSHER}"
    ),
    failure(
        over_tls(PUSHER, "wss", trusted=False),
        "pusher.tls|isn't trusted|BRIDGE_PUSHER_CA_FILE",
    ),
    failure(at_api(PUSHER, "ws://127.0.0.1:{}"), f"pusher.handshake|HTTP 404|{PUSHER}"),
    refused_by_dryapi(
        given(PUSHER_APP_KEY="no-such-key"),
        "pusher.handshake|4001|BRIDGE_PUSHER_APP_KEY",
    ),
    after_upgrade(say_nothing, "pusher.handshake|no connection_established within 3 s"),
    after_upgrade(only_complain, "pusher.handshake|Over capacity|4100|It may pass"),
    failure(given(), "pusher.handshake|4200|It may pass", script=closing(4200)),
    after_upgrade(
        begin_with_something_else,
        f"pusher.handshake|instead of connection_established|{PUSHER}",
    ),
    # The API
    failure(given(API_URL=f"https://{_NOBODY}"), f"api.dns|{_NOBODY}|{API}"),
    failure(
        at(API, "http://127.0.0.1:{}", closed_port),
        f"api.tcp|Connection refused|{API}",
    ),
    failure(at_api(API, "https://127.0.0.1:{}"), "api.tls|no TLS|http://"),
    failure(
        over_tls(API, "https", days=-1), "api.tls|certificate has expired|Renew it"
    ),
    failure(over_tls(API, "https", "other.example"), f"api.tls|another name|{API}"),
    failure(
        over_tls(API, "https", trusted=False),
        "api.tls|isn't trusted|BRIDGE_PUSHER_CA_FILE",
    ),
    warning(over_tls(API, "https", days=3), "api.tls|ends in 2 d|Renew it"),
    failure(
        lambda ground: {API: f"http://{ground.servers.guarded.bootstrap_servers}"},
        f"api.http|isn't HTTP|{API}",
    ),
    # Accounts
    refused_by_dryapi(status(401), "authorization|401|BRIDGE_API_TOKEN"),
    refused_by_dryapi(status(403), "authorization|403|BRIDGE_CLIENT_ID"),
    failure(status(500), "authorization|HTTP 500|It may pass"),
    failure(status(404), f"authorization|HTTP 404|{API}"),
    failure(login_page, f"authorization|text/html|is not JSON|{API}"),
    refused_by_dryapi(
        signed_by_another, "subscription|refused channel private-client.42"
    ),
    after_upgrade(
        forget_the_subscription,
        "subscription|no answer to 2 subscriptions|the same deployment",
    ),
    refused_by_dryapi(
        given(),
        "subscription|4009|BRIDGE_CLIENT_ID",
        script=spoken(refuse_the_connection),
    ),
    after_upgrade(break_down, f"subscription|broke|{PUSHER}"),
    # The clock
    warning(skewed(600), "clock|s behind dryAPI|webhooks would be refused|NTP"),
    warning(skewed(-60), "clock|s ahead of dryAPI|NTP"),
    warning(skewed(None), "clock|no time|NTP"),
    # Brokers and signing in
    kafka(
        given(
            KAFKA_BOOTSTRAP_SERVERS=f"{_NOBODY}:9092",
            KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        ),
        f"kafka.dns|{_NOBODY}|{SERVERS}",
    ),
    kafka(
        at(SERVERS, "127.0.0.1:{}", closed_port),
        f"kafka.tcp|Connection refused|{SERVERS}",
    ),
    warning(
        lambda ground: at(
            SERVERS,
            f"127.0.0.1:{{}},{ground.servers.guarded.guarded_servers}",
            closed_port,
        )(ground),
        "kafka.tcp|Connection refused|other addresses of the list respond",
    ),
    kafka(at_api(SERVERS, "127.0.0.1:{}"), f"kafka.broker|web server|{SERVERS}"),
    kafka(
        given(KAFKA_SASL_PASSWORD="canary-of-a-typo"),
        "kafka.sasl|refuses user 'bridge'|BRIDGE_KAFKA_SASL_PASSWORD",
    ),
    kafka(
        given(KAFKA_SASL_MECHANISM="SCRAM-SHA-512"),
        "kafka.sasl|PLAIN|BRIDGE_KAFKA_SASL_MECHANISM",
    ),
    kafka(
        given(KAFKA_SECURITY_PROTOCOL="SASL_SSL"),
        "kafka.tls|doesn't use TLS|BRIDGE_KAFKA_SECURITY_PROTOCOL|SASL_PLAINTEXT",
    ),
    kafka(
        lambda ground: {SERVERS: ground.servers.guarded.bootstrap_servers},
        "kafka.sasl|has no SASL|BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    kafka(openly, "kafka.broker|requires SASL|BRIDGE_KAFKA_SECURITY_PROTOCOL"),
    kafka(
        signing_in("PASSWORDS", stranger),
        "kafka.tls|isn't trusted|BRIDGE_KAFKA_SSL_CA_FILE",
    ),
    misplaced(signing_in("PASSWORDS", no_authority), "kafka.tls|kafka.ssl_ca_file|PEM"),
    kafka(signing_in("EXPIRED"), "kafka.tls|has expired|Renew it"),
    kafka(signing_in("MISNAMED"), "kafka.brokers|another name|advertised.listeners"),
    kafka(
        signing_in("MUTUAL", SSL_CERT_FILE=None, SSL_KEY_FILE=None),
        "kafka.tls|requires a client certificate|BRIDGE_KAFKA_SSL_CERT_FILE",
    ),
    *(
        kafka(
            signing_in("MUTUAL", own_certificate(days)),
            "kafka.tls|refuses the certificate|BRIDGE_KAFKA_SSL_CERT_FILE",
        )
        for days in (30, -1)
    ),
    kafka(
        signing_in("PASSWORDS", SECURITY_PROTOCOL="SASL_PLAINTEXT", SSL_CA_FILE=None),
        "kafka.broker|requires TLS|BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    kafka(
        signing_in("SCRAM", SASL_USERNAME="stranger"),
        "kafka.sasl|refuses user 'stranger'|BRIDGE_KAFKA_SASL_USERNAME",
    ),
    kafka(
        signing_in("TOKENS", SASL_OAUTH_CLIENT_SECRET="canary-of-a-typo"),
        "kafka.sasl|BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET",
    ),
    kafka(
        signing_in("TOKENS", wrong_audience), "kafka.sasl|refuses the token|audience"
    ),
    # Topics and permissions
    kafka(topics(missing=["jobs"]), "kafka.topics|missing, or hidden|kafka-topics.sh"),
    kafka(topics(missing=["letters"]), "kafka.topics|letters-|--create"),
    kafka(topics(missing=["gaps"]), "kafka.topics|gaps-|kafka.create_topics"),
    kafka(uncreated, "kafka.topics|Not authorized to create|Grant Create"),
    kafka(without("jobs", _WRITE), "kafka.acls|no Write|--operation Write"),
    kafka(without("jobs", _READ), "kafka.acls|no Read|--operation Read"),
    kafka(without("letters", _WRITE), "kafka.acls|no Write|--topic letters-"),
    kafka(without("gaps", _WRITE), "kafka.acls|no Write|--topic gaps-"),
    kafka(without("jobs", *RIGHTS), "kafka.topics|Not authorized|Grant"),
    warning(
        without("gaps", AclOperation.DESCRIBE_CONFIGS),
        "kafka.acls|DescribeConfigs|--operation DescribeConfigs",
    ),
    kafka(
        given(DELIVERY="transactional"),
        "kafka.transactions|refuses a transactional producer"
        "|Grant the user Write and Describe",
    ),
    kafka(config("jobs", _SIZE, "1000"), f"kafka.sizes|{_SIZE}|kafka-configs"),
    warning(config("jobs", _SIZE, "2000000"), f"kafka.sizes|{_SIZE}|letters-"),
    *(
        warning(config(role, name, value), f"kafka.topics|{name}|kafka-configs")
        for role, name, value in (
            ("gaps", "cleanup.policy", "compact"),
            ("jobs", "min.insync.replicas", "2"),
            ("jobs", "retention.ms", "3600000"),
            ("jobs", "message.timestamp.type", "LogAppendTime"),
        )
    ),
    # The Schema Registry
    kafka(registry(NO_SUBJECT), "schema_registry|no schema|Register it"),
    kafka(
        registry(Reply(401, b"{}")),
        "schema_registry|HTTP 401|BRIDGE_SCHEMA_REGISTRY_USERNAME",
    ),
    kafka(
        registry(Reply(503, b"{}")),
        "schema_registry|HTTP 503|BRIDGE_SCHEMA_REGISTRY_URL",
    ),
    kafka(registry(Reply(200, b"<html>")), "schema_registry|doesn't speak"),
    misplaced(
        given(
            SCHEMA_REGISTRY_URL="http://127.0.0.1:1",
            SCHEMA_REGISTRY_USERNAME="a:b",
            SCHEMA_REGISTRY_PASSWORD="canary-of-a-registry",
        ),
        "schema_registry|colon|BRIDGE_SCHEMA_REGISTRY_USERNAME",
    ),
    kafka(
        at("BRIDGE_SCHEMA_REGISTRY_URL", "http://127.0.0.1:{}", closed_port),
        "schema_registry|can't be asked|BRIDGE_SCHEMA_REGISTRY_URL",
    ),
    # The outbox
    misplaced(no_directory, "outbox.directory|Not a directory|BRIDGE_OUTBOX_DIR"),
    failure(damaged, "outbox.file|not a readable outbox|Copy the directory"),
    failure(newer, "outbox.file|format|un the version that wrote it"),
    failure(foreign, "outbox.file|no outbox|a directory of its own"),
    # The status endpoint
    warning(of_job(401), "status|refused the API token|401|BRIDGE_API_TOKEN"),
    warning(
        of_job(429, _USED_UP),
        "status|the calls of this day are used up"
        "|50 of 50 calls of this minute and 0 of 200 calls of this day",
    ),
    warning(
        of_job(429, {"Retry-After": "7"}), "status|the calls of this minute are used up"
    ),
    warning(of_job(500), "status|HTTP 500|It may pass|would not be looked up"),
    warning(of_job(302, {"Location": "/login"}), f"status|HTTP 302|{API}"),
    warning(of_job(200), f"status|a job that doesn't exist|{API}"),
    # Webhooks
    misplaced(
        taken_port, "webhook.port|in use by another process|BRIDGE_WEBHOOK_LISTEN"
    ),
    misplaced(
        lambda _: webhooks(LISTEN="192.0.2.1:8443"),
        "webhook.port|no such address|BRIDGE_WEBHOOK_LISTEN",
    ),
    misplaced(
        shown(key_of_another=True),
        "webhook.tls|can't be used|BRIDGE_WEBHOOK_TLS_KEY_FILE",
    ),
    failure(
        shown(days=-1),
        "webhook.tls|certificate has expired|BRIDGE_WEBHOOK_TLS_CERT_FILE",
    ),
    warning(shown(days=3), "webhook.tls|ends in 2 d|picks them up"),
    warning(
        lambda _: webhooks("canary-of-a-token"),
        "webhook.secret|whsec_|BRIDGE_WEBHOOK_SECRET_FILE",
    ),
    warning(
        lambda _: webhooks("whsec_canary canary-of-a-token"), "webhook.secret|1 of 2"
    ),
    # A server that never answers is named by the step that waits for it, in time.
    failure(at(PUSHER, "ws://127.0.0.1:{}", black_hole), "pusher.tcp|within|firewall"),
    failure(at(PUSHER, "wss://127.0.0.1:{}", deaf_port), f"pusher.tls|within|{PUSHER}"),
    failure(
        at(PUSHER, "ws://127.0.0.1:{}", deaf_port),
        f"pusher.handshake|within|{PUSHER}",
    ),
    failure(at(API, "http://127.0.0.1:{}", black_hole), "api.tcp|within|firewall"),
    failure(at(API, "http://127.0.0.1:{}", deaf_port), f"api.http|within|{API}"),
    failure(thinking(AUTH), f"authorization|within|{API}"),
    # Without the status endpoint events come all the same.
    warning(thinking(STATUS), f"status|within|{API}"),
    kafka(at(SERVERS, "127.0.0.1:{}", black_hole), "kafka.tcp|within|firewall"),
    kafka(at(SERVERS, "127.0.0.1:{}", deaf_port), f"kafka.broker|within|{SERVERS}"),
    kafka(
        registry(Reply(200, b"{}", pause_seconds=4)),
        "schema_registry|within|BRIDGE_SCHEMA_REGISTRY_URL",
    ),
]


async def test_a_fault_is_named(
    subtests: pytest.Subtests, tmp_path: Path, servers: Servers
) -> None:
    """Its step has words for it and a hint; what doesn't depend on it is ok."""
    assert len(FAULTS) >= 60
    reports: dict[int, Report] = {}

    async def look(number: int, ground: Ground, changes: Changes) -> None:
        script = FAULTS[number].script
        async with trio.open_nursery() as nursery:
            if script is not None:
                serve = partial(trio.serve_tcp, script, 0, host="127.0.0.1")
                (listener,) = await nursery.start(serve)
                port = listener.socket.getsockname()[1]
                changes = {PUSHER: f"ws://127.0.0.1:{port}"}
            reports[number] = await ground.check(changes)
            nursery.cancel_scope.cancel()

    # Some side by side, each on a ground of its own; putting one in blocks the loop.
    for begin in range(0, len(FAULTS), _AT_ONCE):
        with ExitStack() as stack:
            grounds = {}
            for number in range(begin, min(begin + _AT_ONCE, len(FAULTS))):
                folder = tmp_path / str(number)
                folder.mkdir()
                ground = Ground.make(folder, servers, stack)
                grounds[number] = ground, FAULTS[number].make(ground)
            async with trio.open_nursery() as nursery:
                for number, (ground, changes) in grounds.items():
                    nursery.start_soon(look, number, ground, changes)
        servers.secure.provider.reset()
    for number, fault in enumerate(FAULTS):
        with subtests.test(number=number, told=fault.told):
            check_told(reports[number], fault.told, fault.outcome, fault.exit_code)
    lines = [line for report in reports.values() for line in report.lines]
    page = _PAGE.read_text("utf-8")
    assert set(_names_in(page, "step")) == {line.step for line in lines}
    assert set(_names_in(page, "outcome")) == {line.outcome for line in lines}


def _names_in(text: str, head: str) -> list[str]:
    """Give the names in the first column of a table."""
    (rows,) = re.findall(
        rf"^\| {head} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    cells = [row.split("|")[1] for row in rows.splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
