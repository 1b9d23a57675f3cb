"""What a check reports where all is well, and that it changes nothing."""

from __future__ import annotations

# What asyncio imports when it is used first: another user may not read Python's files.
import concurrent.futures.thread  # noqa: F401
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from aiokafka.protocol.transaction import (  # noqa: TID251 - brokers' rare answers
    InitProducerIdRequest,
)
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AclOperation, OffsetSpec, ResourceType

from bridge.check.report import Outcome
from bridge.errors import ExitCode
from bridge.outbox import OutboxDirectory
from tests.check.ground import CANARY, CLIENT_ID, Ground, details, remarkable
from tests.check.planting import (
    NO_SUBJECT,
    black_hole,
    filled,
    registry,
    shown,
    signing_in,
    taken_port,
)
from tests.kafka.relay.faults import intercept
from tests.kit.broker import admin_of
from tests.kit.guarded import GuardedKafka
from tests.kit.scripted import Peer, spoken
from tests.outbox.test_full_disk import _unshare
from tests.schemas.scripted import Asked, Reply, ScriptedRegistry


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)

_ACCOUNTS = 40
_AT_ONCE = 16

# https://kafka.apache.org/protocol#protocol_error_codes
_LOADING = 14
_FORBIDDEN = 31

_SCHEMAS = "schema_registry"

_Send = Callable[[], Awaitable[Any]]


# -- Time ------------------------------------------------------------


async def test_all_of_it_ends_in_time_though_nobody_answers(ground: Ground) -> None:
    """What was not reached by then is skipped; nothing is left out."""
    port = ground.stack.enter_context(black_hole())
    everywhere = {
        "BRIDGE_PUSHER_URL": f"ws://127.0.0.1:{port}",
        "BRIDGE_API_URL": f"http://127.0.0.1:{port}",
        "BRIDGE_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port}",
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
    }
    well = await ground.check()
    report = await ground.check(everywhere, seconds=1.0)
    assert {line.step for line in report.lines} == {
        *(line.step for line in well.lines),
        "schema_registry",
    }
    failed = [line for line in report.lines if line.outcome is Outcome.FAILURE]
    steps = {"pusher.tcp", "api.tcp", "kafka.tcp", "schema_registry"}
    assert {line.step for line in failed} == steps
    assert all("within" in line.detail for line in failed)


# -- Accounts ------------------------------------------------------------


def accounts_of(ground: Ground, *refused: int) -> tuple[Path, dict[str, str | None]]:
    """Write settings with many accounts, all of one token; dryAPI knows the others."""
    token = ground.folder / "token"
    token.write_text("canary-of-all")
    file = ground.folder / "bridge.toml"
    file.write_text(
        "".join(
            f'[[accounts]]\nclient_id = "a{number}"\napi_token_file = "{token}"\n'
            for number in range(_ACCOUNTS)
        )
    )
    known = [f"a{number}" for number in set(range(_ACCOUNTS)) - set(refused)]
    ground.api = ground.dryapi({known[0]: "canary-of-all"})
    for client_id in known:
        ground.api.admit(client_id, "canary-of-all")
    alone = {"BRIDGE_CLIENT_ID": None, "BRIDGE_API_TOKEN": None}
    return file, {"BRIDGE_API_URL": ground.api.url, **alone}


async def test_one_refused_account_of_many_is_named(ground: Ground) -> None:
    """The others' channels are signed for and subscribed, each over a connection."""
    file, changes = accounts_of(ground, 7)
    report = await ground.check(changes, file)
    (line,) = remarkable(report)
    assert (line.step, line.subject) == ("authorization", "a7")
    assert "[[accounts]]" in line.hint
    assert report.exit_code is ExitCode.REFUSED_BY_DRYAPI
    subscribed = {subject: one for one, subject, _ in details(report, "subscription")}
    assert subscribed.pop("a7") is Outcome.SKIPPED
    assert list(subscribed.values()) == [Outcome.OK] * (_ACCOUNTS - 1)
    assert len(ground.api.authorizations) == _ACCOUNTS
    assert len({one.socket_id for one in ground.api.authorizations}) == _ACCOUNTS
    assert "canary" not in str(report)


async def test_at_most_16_connections_are_open_at_once(ground: Ground) -> None:
    """Each account has one, after one up to the greeting."""
    file, changes = accounts_of(ground)
    opened = most = now = 0

    async def acknowledge(peer: Peer) -> None:
        nonlocal opened, most, now
        opened, now = opened + 1, now + 1
        most = max(most, now)
        try:
            await peer.establish()
            channel = (await peer.read_until("pusher:subscribe"))["data"]["channel"]
            # The others have time to come.
            await trio.sleep(0.2)
            await peer.say("pusher_internal:subscription_succeeded", channel=channel)
            await peer.answer_pings()
        finally:
            now -= 1

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, spoken(acknowledge), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        report = await ground.check({**changes, "BRIDGE_PUSHER_URL": url}, file)
        nursery.cancel_scope.cancel()
    assert remarkable(report) == []
    assert (opened, most) == (1 + _ACCOUNTS, _AT_ONCE)


# -- The status endpoint and webhooks ----------------------------------------------


async def test_the_calls_that_are_left_are_told(ground: Ground) -> None:
    """It is asked once, about a job that doesn't exist, with the account's token."""
    report = await ground.check()
    assert remarkable(report) == []
    assert not [one for one in report.lines if one.outcome is Outcome.SKIPPED]
    assert report.exit_code is ExitCode.CLEAN
    left = "left are 49 of 50 calls of this minute and 199 of 200 calls of this day"
    assert details(report, "status") == [
        (Outcome.OK, CLIENT_ID, f"answers (HTTP 404); {left}")
    ]
    ((token, job),) = ground.api.status_calls
    assert token == CANARY
    assert uuid.UUID(job).version == 4
    # No other request has the token but that for the signature.
    assert sum(CANARY in one.authorization for one in ground.api.requests) == 2


async def test_what_is_switched_off_is_not_looked_at(ground: Ground) -> None:
    """Neither a call is spent nor a port opened."""
    report = await ground.check({"BRIDGE_RECONCILIATION_ENABLED": "false"})
    steps = {line.step for line in report.lines}
    assert steps.isdisjoint({"status", "webhook.secret", "webhook.tls", "webhook.port"})
    assert ground.api.status_calls == []


async def test_webhooks_that_could_come_are_called_so(ground: Ground) -> None:
    """Secrets, certificate and port, each for itself."""
    report = await ground.check(shown()(ground))
    assert remarkable(report) == []
    secrets = "any of 2 secrets may sign"
    assert details(report, "webhook.secret") == [(Outcome.OK, CLIENT_ID, secrets)]
    ((_, file, detail),) = details(report, "webhook.tls")
    assert file.endswith("hooks-30.crt")
    assert detail == "fits its key, certificate for 29 d"
    assert details(report, "webhook.port") == [
        (Outcome.OK, "127.0.0.1:0", "can be opened")
    ]


async def test_a_port_that_a_running_bridge_has_is_no_fault(ground: Ground) -> None:
    """The outbox shows that one runs."""
    changes = taken_port(ground)
    with OutboxDirectory(filled(ground).parent):
        report = await ground.check(changes)
    assert remarkable(report) == []
    ((outcome, _, detail),) = details(report, "webhook.port")
    assert outcome is Outcome.OK
    assert detail == "in use, as it is while a bridge runs"


# -- Brokers and registries ----------------------------------------------------------


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [("PASSWORDS", "SCRAM-SHA-512"), ("MUTUAL", None), ("TOKENS", "OAUTHBEARER")],
)
async def test_who_is_let_in_has_nothing_remarkable(
    ground: Ground, listener: str, mechanism: str | None
) -> None:
    """Certificates, passwords and tokens, each with its steps."""
    report = await ground.check(signing_in(listener, mechanism=mechanism)(ground))
    assert remarkable(report) == []
    ((_, _, detail),) = details(report, "kafka.tls")
    assert "certificate for" in detail
    assert bool(details(report, "kafka.sasl")) is (mechanism is not None)
    assert report.exit_code is ExitCode.CLEAN


async def test_no_right_to_write_idempotently_is_told(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brokers before 2.8 want a right of its own for it."""

    async def forbid(_: _Send) -> object:
        return SimpleNamespace(error_code=_FORBIDDEN)

    intercept(monkeypatch, InitProducerIdRequest, forbid)
    (line,) = remarkable(await ground.check())
    assert (line.step, line.outcome) == ("kafka.producer", Outcome.FAILURE)
    assert "IdempotentWrite on the cluster" in line.hint


async def test_a_broker_that_has_just_started_gets_a_moment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no ids to give for some tenths of a second."""
    answers = [_LOADING, _LOADING]

    async def load(onward: _Send) -> object:
        return SimpleNamespace(error_code=answers.pop()) if answers else await onward()

    intercept(monkeypatch, InitProducerIdRequest, load)
    assert remarkable(await ground.check()) == []
    assert answers == []


async def test_a_schema_that_is_there_is_named(ground: Ground) -> None:
    """By the id that will precede the values."""
    reply = Reply(200, json.dumps({"subject": "s", "version": 1, "id": 258}).encode())
    report = await ground.check(registry(reply)(ground))
    assert remarkable(report) == []
    found = [(outcome, detail) for outcome, _, detail in details(report, _SCHEMAS)]
    assert found == [(Outcome.OK, "schema 258")] * 2


async def test_a_schema_that_the_bridge_would_register_is_no_fault(
    ground: Ground,
) -> None:
    """It is looked up, and not registered."""
    asked = []

    def answer(one: Asked) -> Reply:
        asked.append(one.path)
        return NO_SUBJECT

    url = ground.stack.enter_context(ScriptedRegistry(answer).serving()).url
    changes = {
        "BRIDGE_SCHEMA_REGISTRY_URL": url,
        "BRIDGE_SCHEMA_REGISTRY_REGISTER": "true",
    }
    report = await ground.check(changes)
    assert remarkable(report) == []
    for outcome, _, detail in details(report, _SCHEMAS):
        assert outcome is Outcome.OK
        assert "the bridge registers it" in detail
    assert len(asked) == 2
    assert not [path for path in asked if path.endswith("/versions")]


# -- Nothing is changed ------------------------------------------------------------


def ends(guarded: GuardedKafka) -> dict[tuple[str, int], int]:
    """Give the end of each partition that there is, internal topics included."""
    admin = admin_of(guarded.bootstrap_servers)
    asked = {
        TopicPartition(name, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for name, topic in admin.list_topics(timeout=30).topics.items()
        for number in topic.partitions
    }
    found = admin.list_offsets(asked)
    return {
        (place.topic, place.partition): future.result(30).offset
        for place, future in found.items()
    }


async def test_no_topic_is_made_and_no_record_written(ground: Ground) -> None:
    """Not even where the bridge would, and may; nor is its directory."""
    guarded = ground.servers.guarded
    names = ground.make_topics(guarded, missing=["gaps"])
    gaps = names["BRIDGE_TOPICS_GAPS"]
    guarded.allow(ResourceType.TOPIC, gaps, AclOperation.CREATE)
    ids = (AclOperation.WRITE, AclOperation.DESCRIBE)
    prefix = f"bridge-{uuid.uuid4().hex[:8]}"
    guarded.allow(ResourceType.TRANSACTIONAL_ID, f"{prefix}.", *ids)
    before = ends(guarded)
    report = await ground.check(
        {
            **names,
            "BRIDGE_DELIVERY": "transactional",
            "BRIDGE_KAFKA_CLIENT_ID": prefix,
            "BRIDGE_KAFKA_CREATE_TOPICS": "true",
            "BRIDGE_KAFKA_REPLICATION_FACTOR": "1",
        }
    )
    assert remarkable(report) == []
    told = {(line.step, line.subject): line for line in report.lines}
    assert "the bridge can create it" in told["kafka.topics", gaps].detail
    assert told["kafka.acls", gaps].outcome is Outcome.SKIPPED
    assert told["kafka.transactions", ""].outcome is Outcome.OK
    assert ends(guarded) == before
    ((_, _, detail), *_) = details(report, "outbox.directory")
    assert "the bridge can create it" in detail
    assert list(ground.folder.iterdir()) == []


# Root may write everywhere; this user may not.
_NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user who may not do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def closed_folder(mode: int) -> Iterator[Path]:
    """Give a directory that others can get to, and can't use; pytest's are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(mode)
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize("mode", [0o555, 0o000])
async def test_a_directory_that_this_user_may_not_write_to(
    ground: Ground, mode: int
) -> None:
    """Whether he may look into it or not."""
    with closed_folder(mode) as folder, without_privileges():
        report = await ground.check({"BRIDGE_OUTBOX_DIR": str(folder / "outbox")})
    (line,) = remarkable(report)
    assert (line.step, line.outcome) == ("outbox.directory", Outcome.FAILURE)
    assert "Permission denied" in line.detail
    assert "BRIDGE_OUTBOX_DIR" in line.hint
    assert report.exit_code is ExitCode.USAGE


def test_a_disk_that_is_full(ground: Ground) -> None:
    """Space for acknowledgements is left to them; a small disk is reported too."""
    way = _unshare()
    if way is None:
        pytest.skip("this user may not mount a small disk: no user namespaces, no root")
    full, small = (
        _looked_at(ground, way, filling) for filling in ("head -c 4m /dev/zero", "true")
    )
    (space,) = (line for line in full["checks"] if line["step"] == "outbox.space")
    assert space["outcome"] == "failure"
    assert "no event would be accepted" in space["detail"]
    assert "Make room on the disk" in space["remedy"]
    assert full["exit_code"] == ExitCode.USAGE
    (space,) = (line for line in small["checks"] if line["step"] == "outbox.space")
    assert space["outcome"] == "warning"
    assert "less than the 8.0 GiB" in space["detail"]
    assert "BRIDGE_OUTBOX_MAX_BYTES" in space["remedy"]
    memory = [line for line in small["checks"] if line["step"] == "outbox.directory"]
    assert [line["outcome"] for line in memory] == ["ok", "warning"]
    assert "lies in memory (tmpfs)" in memory[1]["detail"]


def _looked_at(ground: Ground, way: tuple[str, ...], filling: str) -> dict[str, Any]:
    """Have a look at a disk of 2 MB, some of which is used."""
    disk = ground.folder / "disk"
    disk.mkdir(exist_ok=True)
    script = (
        'mount -t tmpfs -o size=2m tmpfs "$1" && mkdir "$1/outbox" &&'
        f' {{ {filling} > "$1/filling" 2>/dev/null; }};'
        ' exec "$2" -m bridge check --output json'
    )
    looked = subprocess.run(
        [*way, "sh", "-c", script, "sh", str(disk), sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        env={
            **os.environ,
            **{name: text for name, text in ground.environ.items() if text},
            "BRIDGE_OUTBOX_DIR": str(disk / "outbox"),
        },
    )
    facts: dict[str, Any] = json.loads(looked.stdout)
    assert looked.returncode == facts["exit_code"]
    return facts
