"""Each fault is reported by the step that meets it, and by no other one."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from confluent_kafka.admin import AclOperation

from bridge.check import Outcome, Report
from bridge.errors import ExitCode
from tests.check.ground import RIGHTS, Ground, check_told
from tests.check.holes import black_hole, closed_port
from tests.check.planting import (
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
    silent,
    skewed,
    status,
    taken_port,
    thinking,
    topics,
    transactional,
    uncreated,
    web_server,
    webhooks,
    without,
)
from tests.kit.authorities import Authority
from tests.kit.dryapi import AUTH, STATUS
from tests.kit.guarded import GuardedKafka
from tests.kit.publisher import Soketi
from tests.registry.scripted import Reply


@dataclass(frozen=True)
class Fault:
    """A fault."""

    make: Make
    told: str
    outcome: Outcome = Outcome.FAILURE
    exit_code: ExitCode = ExitCode.FAILED


failure = Fault
warning = partial(Fault, outcome=Outcome.WARNING, exit_code=ExitCode.CLEAN)
# The bridge ends with 4, 3 and 2.
kafka = partial(Fault, exit_code=ExitCode.REFUSED_BY_KAFKA)
refused_by_dryapi = partial(Fault, exit_code=ExitCode.REFUSED_BY_DRYAPI)
misplaced = partial(Fault, exit_code=ExitCode.USAGE)

# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(300)

_AT_ONCE = 6
_PAGE = Path(__file__).parents[2] / "docs" / "check.md"

_PUSHER, _API = "BRIDGE_PUSHER_URL", "BRIDGE_API_URL"
_SERVERS = "BRIDGE_KAFKA_BOOTSTRAP_SERVERS"
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

FAULTS: list[Fault] = [
    # Settings
    misplaced(no_certificate, "settings|BRIDGE_PUSHER_CA_FILE"),
    warning(given(TOPC="jobs"), "settings|BRIDGE_TOPC"),
    # The Pusher server
    failure(given(PUSHER_URL=f"wss://{_NOBODY}"), f"pusher.dns|{_NOBODY}|{_PUSHER}"),
    failure(
        lambda _: {_PUSHER: f"ws://127.0.0.1:{closed_port()}"},
        f"pusher.tcp|Connection refused|{_PUSHER}",
    ),
    failure(no_tls(_PUSHER, "wss"), "pusher.tls|no TLS|ws://"),
    failure(
        over_tls(_PUSHER, "wss", "127.0.0.1", "127.0.0.1", days=-1),
        "pusher.tls|certificate has expired|Renew it",
    ),
    failure(
        over_tls(_PUSHER, "wss", "127.0.0.1", "other.example"),
        f"pusher.tls|another name|{_PUSHER}",
    ),
    failure(
        over_tls(_PUSHER, "wss", "127.0.0.1", "127.0.0.1", trusted=False),
        "pusher.tls|isn't trusted|BRIDGE_PUSHER_CA_FILE",
    ),
    failure(
        web_server(_PUSHER, "ws://127.0.0.1:{}"), f"pusher.handshake|HTTP 404|{_PUSHER}"
    ),
    refused_by_dryapi(
        given(PUSHER_APP_KEY="no-such-key"),
        "pusher.handshake|4001|BRIDGE_PUSHER_APP_KEY",
    ),
    # The API
    failure(given(API_URL=f"https://{_NOBODY}"), f"api.dns|{_NOBODY}|{_API}"),
    failure(
        lambda _: {_API: f"http://127.0.0.1:{closed_port()}"},
        f"api.tcp|Connection refused|{_API}",
    ),
    failure(no_tls(_API, "https"), "api.tls|no TLS|http://"),
    failure(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", days=-1),
        "api.tls|certificate has expired|Renew it",
    ),
    failure(
        over_tls(_API, "https", "127.0.0.1", "other.example"),
        f"api.tls|another name|{_API}",
    ),
    failure(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", trusted=False),
        "api.tls|isn't trusted|BRIDGE_PUSHER_CA_FILE",
    ),
    warning(
        over_tls(_API, "https", "127.0.0.1", "127.0.0.1", days=3),
        "api.tls|ends in 2 d|Renew it",
    ),
    failure(
        lambda ground: {_API: f"http://{ground.guarded.bootstrap_servers}"},
        f"api.http|isn't HTTP|{_API}",
    ),
    # Accounts
    refused_by_dryapi(status(401), "authorization|401|BRIDGE_API_TOKEN"),
    refused_by_dryapi(status(403), "authorization|403|BRIDGE_CLIENT_ID"),
    failure(status(500), "authorization|HTTP 500|It may pass"),
    failure(status(404), f"authorization|HTTP 404|{_API}"),
    failure(login_page, f"authorization|text/html|is not JSON|{_API}"),
    refused_by_dryapi(
        signed_by_another, "subscription|refused channel private-client.42"
    ),
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
        f"kafka.dns|{_NOBODY}|BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    kafka(
        lambda _: {"BRIDGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed_port()}"},
        "kafka.tcp|Connection refused|BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    warning(
        lambda ground: {
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": (
                f"127.0.0.1:{closed_port()},{ground.guarded.guarded_servers}"
            )
        },
        "kafka.tcp|Connection refused|other addresses of the list respond",
    ),
    kafka(
        web_server("BRIDGE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:{}"),
        "kafka.broker|web server|BRIDGE_KAFKA_BOOTSTRAP_SERVERS",
    ),
    kafka(
        given(KAFKA_SASL_PASSWORD="canary-of-a-typo"),
        "kafka.sasl|refuses to let 'bridge' in|BRIDGE_KAFKA_SASL_PASSWORD",
    ),
    kafka(
        given(KAFKA_SASL_MECHANISM="SCRAM-SHA-512"),
        "kafka.sasl|PLAIN|BRIDGE_KAFKA_SASL_MECHANISM",
    ),
    kafka(
        given(KAFKA_SECURITY_PROTOCOL="SASL_SSL"),
        "kafka.tls|no TLS|BRIDGE_KAFKA_SECURITY_PROTOCOL|SASL_PLAINTEXT",
    ),
    kafka(
        lambda ground: {
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": ground.guarded.bootstrap_servers
        },
        "kafka.sasl|has no SASL|BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    kafka(
        lambda _: _OPENLY,
        "kafka.broker|requires SASL|BRIDGE_KAFKA_SECURITY_PROTOCOL",
    ),
    # Topics and rights
    kafka(topics(missing=["jobs"]), "kafka.topics|not there|kafka-topics.sh"),
    kafka(topics(missing=["letters"]), "kafka.topics|letters-|--create"),
    kafka(topics(missing=["gaps"]), "kafka.topics|gaps-|kafka.create_topics"),
    kafka(uncreated, "kafka.topics|would not let this user create|Grant Create"),
    kafka(without("jobs", _WRITE), "kafka.acls|rights: no Write|--operation Write"),
    kafka(without("jobs", _READ), "kafka.acls|rights: no Read|--operation Read"),
    kafka(without("letters", _WRITE), "kafka.acls|rights: no Write|--topic letters-"),
    kafka(without("gaps", _WRITE), "kafka.acls|rights: no Write|--topic gaps-"),
    kafka(without("jobs", *RIGHTS), "kafka.topics|forbids|Grant"),
    warning(
        without("gaps", AclOperation.DESCRIBE_CONFIGS),
        "kafka.acls|DescribeConfigs|--operation DescribeConfigs",
    ),
    kafka(
        transactional,
        "kafka.transactions|refuses a transactional producer"
        "|Grant the user Write and Describe",
    ),
    kafka(
        topics(configs={"jobs": {_SIZE: "1000"}}), f"kafka.sizes|{_SIZE}|kafka-configs"
    ),
    warning(
        topics(configs={"jobs": {_SIZE: "2000000"}}), f"kafka.sizes|{_SIZE}|letters-"
    ),
    warning(
        topics(configs={"gaps": {"cleanup.policy": "compact"}}),
        "kafka.topics|cleanup.policy|kafka-configs",
    ),
    warning(
        topics(configs={"jobs": {"min.insync.replicas": "2"}}),
        "kafka.topics|min.insync.replicas|kafka-configs",
    ),
    warning(
        topics(configs={"jobs": {"retention.ms": "3600000"}}),
        "kafka.topics|retention.ms|kafka-configs",
    ),
    warning(
        topics(configs={"jobs": {"message.timestamp.type": "LogAppendTime"}}),
        "kafka.topics|message.timestamp.type|kafka-configs",
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
    kafka(
        lambda _: {"BRIDGE_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{closed_port()}"},
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
        "status|the calls of this day are used up"
        "|50 of 50 calls of this minute and 0 of 200 calls of this day",
    ),
    warning(
        of_job(429, {"Retry-After": "7"}), "status|the calls of this minute are used up"
    ),
    warning(of_job(500), "status|HTTP 500|It may pass|would not be looked up"),
    warning(of_job(302, {"Location": "/login"}), f"status|HTTP 302|{_API}"),
    warning(of_job(200), f"status|a job that doesn't exist|{_API}"),
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
    # Who says nothing is named by the step that waits for him, within its time.
    failure(
        silent(_PUSHER, "ws://127.0.0.1:{}", black_hole), "pusher.tcp|within|firewall"
    ),
    failure(silent(_PUSHER, "wss://127.0.0.1:{}"), f"pusher.tls|within|{_PUSHER}"),
    failure(silent(_PUSHER, "ws://127.0.0.1:{}"), f"pusher.handshake|within|{_PUSHER}"),
    failure(silent(_API, "http://127.0.0.1:{}", black_hole), "api.tcp|within|firewall"),
    failure(silent(_API, "http://127.0.0.1:{}"), f"api.http|within|{_API}"),
    failure(thinking(AUTH), f"authorization|within|{_API}"),
    # Without the status endpoint events come all the same.
    warning(thinking(STATUS), f"status|within|{_API}"),
    kafka(silent(_SERVERS, "127.0.0.1:{}", black_hole), "kafka.tcp|within|firewall"),
    kafka(silent(_SERVERS, "127.0.0.1:{}"), f"kafka.broker|within|{_SERVERS}"),
    kafka(
        registry(Reply(200, b"{}", pause_seconds=4)),
        "schema_registry|within|BRIDGE_SCHEMA_REGISTRY_URL",
    ),
]


async def test_a_fault_is_named(  # noqa: PLR0917 - the servers
    subtests: pytest.Subtests,
    tmp_path: Path,
    soketi: Soketi,
    guarded: GuardedKafka,
    authority: Authority,
    fine_topics: dict[str, str],
) -> None:
    """Its step has words for it and a remedy; what doesn't depend on it is ok."""
    assert len(FAULTS) >= 60
    reports: dict[int, Report] = {}

    async def look(number: int, ground: Ground, changes: Changes) -> None:
        reports[number] = await ground.check(changes)

    # Some side by side, each on a ground of its own; putting one in blocks the loop.
    for begin in range(0, len(FAULTS), _AT_ONCE):
        with ExitStack() as stack:
            grounds = {}
            for number in range(begin, min(begin + _AT_ONCE, len(FAULTS))):
                folder = tmp_path / str(number)
                folder.mkdir()
                ground = Ground.make(
                    folder, soketi, guarded, authority, fine_topics, stack
                )
                grounds[number] = ground, FAULTS[number].make(ground)
            async with trio.open_nursery() as nursery:
                for number, (ground, changes) in grounds.items():
                    nursery.start_soon(look, number, ground, changes)
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
