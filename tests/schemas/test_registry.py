"""A real registry as the bridge meets it, looked at with Confluent's own client."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from bridge.errors import (
    ConfigError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from bridge.schemas.json_schema import text_of
from bridge.settings import Secret
from tests.kit.registry import RegistryServer
from tests.schemas.scripted import (
    Asked,
    Reply,
    ScriptedRegistry,
    failure,
    made,
    prefix_of,
)


_ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(registry: RegistryServer) -> Iterator[SchemaRegistryClient]:
    """Confluent's client of the registry."""
    with SchemaRegistryClient({"url": registry.url}) as made_here:
        yield made_here


@pytest.fixture
def name() -> str:
    """A topic's name that no other test uses; the registry is shared."""
    return f"jobs-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize(
    ("naming", "strategy"),
    [
        ("topic", topic_subject_name_strategy),
        ("record", record_subject_name_strategy),
        ("topic-record", topic_record_subject_name_strategy),
    ],
)
def test_a_schema_is_registered_once_under_its_subject(
    registry: RegistryServer,
    client: SchemaRegistryClient,
    name: str,
    naming: str,
    strategy: Callable[[SerializationContext, str], str],
) -> None:
    """By Confluent's strategies; who asks again needs no right to register."""
    first = made(registry.url, name, register=True, subject_naming=naming)
    prefix = prefix_of(first, name)
    again = made(registry.url, name, register=True, subject_naming=naming)
    looked_up = made(registry.url, name, subject_naming=naming)

    assert {prefix_of(one, name) for one in (first, again, looked_up)} == {prefix}
    # A record's name is its schema's title.
    context = SerializationContext(name, MessageField.VALUE)
    subject = strategy(context, "Job status")
    assert client.get_versions(subject) == [1]
    latest = client.get_latest_version(subject)
    assert latest.schema_id is not None
    assert prefix == b"\0" + latest.schema_id.to_bytes(4, "big")
    assert latest.schema.schema_type == "JSON"
    assert latest.schema.schema_str == text_of("job-status")


def test_what_another_writer_registered_is_found(
    registry: RegistryServer, client: SchemaRegistryClient, name: str
) -> None:
    """An older version of the subject counts as well as the latest."""
    text = text_of("job-status")
    schema_id = client.register_schema(
        f"{name}-value", Schema(text_of("job-status"), "JSON")
    )
    later = text_of("job-status").replace('"Job status"', '"Job status, later"')
    assert later != text
    client.register_schema(f"{name}-value", Schema(later, "JSON"))

    assert prefix_of(made(registry.url, name), name)[1:] == schema_id.to_bytes(4, "big")


def test_the_errors_own_way_to_register_works(
    registry: RegistryServer, name: str
) -> None:
    """The command that the log shows puts the schema there."""
    if not (shutil.which("jq") and shutil.which("curl")):
        pytest.skip("the command needs jq and curl")
    client = made(registry.url, name)
    with pytest.raises(RegistryRefusedError) as caught:
        prefix_of(client, name)

    command = str(caught.value).partition("for instance with: ")[2].partition(" -- ")[0]
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=_ROOT, capture_output=True, check=True
    )

    assert prefix_of(client, name)[1:] == json.loads(done.stdout)["id"].to_bytes(4)


_PASSWORD = "canary-3f9a"

UNKNOWN = failure(404, 40401, "Subject 'jobs-value' not found.")


def always(reply: Reply) -> Callable[[Asked], Reply]:
    """Give the same answer to whatever is asked."""
    return lambda _: reply


def bob(password: str | Secret = _PASSWORD) -> dict[str, Any]:
    """Settings of a user of that name."""
    secret = Secret(password) if isinstance(password, str) else password
    return {"username": "bob", "password": secret}


def found(schema_id: int) -> Reply:
    """Answer as to a lookup."""
    return Reply(
        200, json.dumps({"subject": "s", "version": 1, "id": schema_id}).encode()
    )


@pytest.mark.parametrize("code", [40401, 40403])
def test_what_is_missing_is_an_error_where_nothing_may_be_registered(code: int) -> None:
    """It names the subject, the file, a way to register it and the setting."""
    with (
        ScriptedRegistry(always(failure(404, code, "no"))).serving() as registry,
        pytest.raises(RegistryRefusedError) as caught,
    ):
        prefix_of(made(registry.url, **bob()))

    assert len(registry.asked) == 1
    said = str(caught.value)
    assert "subject jobs-value " in said
    assert "jq -Rs '{schemaType: \"JSON\", schema: .}' schemas/job-status" in said
    assert f"curl -u bob --json @- {registry.url}/subjects/jobs-value/versions" in said
    assert "BRIDGE_SCHEMA_REGISTRY_REGISTER" in said
    assert _PASSWORD not in said


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (failure(401, 40101, "Unauthorized"), RegistryRefusedError, "user 'bob'"),
        (Reply(403, b"<html>"), RegistryRefusedError, "SCHEMA_REGISTRY_PASSWORD"),
        (failure(409, 409, "PROPERTY_REMOVED"), RegistryRefusedError, "compatible"),
        (failure(422, 42201, "bad"), RegistryRefusedError, "draft 2020-12"),
        (Reply(404, b"not here"), RegistryRefusedError, "ccompat"),
        (failure(404, 0, "?"), RegistryRefusedError, "ccompat"),
        (failure(405, 405, "POST?"), RegistryRefusedError, "ccompat"),
        (Reply(302, b"-", {"Location": "/login"}), RegistryRefusedError, "ccompat"),
        (Reply(200, b"<html>"), RegistryRefusedError, "ccompat"),
        (Reply(200, b'{"id":"7"}'), RegistryRefusedError, "ccompat"),
        (Reply(200, b'{"id":-1}'), RegistryRefusedError, "ccompat"),
        (Reply(200, b'{"id":4294967296}'), RegistryRefusedError, "ccompat"),
        (Reply(200, b"\xff"), RegistryRefusedError, "ccompat"),
        (Reply(200, b"[" * 300_000), RegistryRefusedError, "ccompat"),
        (failure(429, 429, "slower"), RegistryUnreachableError, "slower"),
        (failure(500, 50001, "store"), RegistryUnreachableError, "store"),
        (Reply(503, b"<html>"), RegistryUnreachableError, "HTTP 503"),
    ],
)
def test_an_answer_that_is_no_id_says_what_to_do(
    reply: Reply, error: type[Exception], words: str
) -> None:
    """What passes by itself is tried again; the rest needs an operator."""
    with (
        ScriptedRegistry(always(reply)).serving() as registry,
        pytest.raises(error, match=words) as caught,
    ):
        prefix_of(made(registry.url, **bob(), register=True))

    assert type(caught.value) is error
    assert f"at {registry.url}" in str(caught.value)


def test_no_error_shows_the_password() -> None:
    """Neither does one that repeats a registry's words with the password in them."""
    reply = failure(500, 50001, f"bob:{_PASSWORD} is unknown\nand {'x' * 1000}")
    with (
        ScriptedRegistry(always(reply)).serving() as registry,
        pytest.raises(RegistryUnreachableError) as caught,
    ):
        prefix_of(made(registry.url, **bob()))

    error: BaseException | None = caught.value
    assert r"bob:*** is unknown\nand xxx" in str(error)
    assert len(str(error)) < 500
    while error is not None:
        assert _PASSWORD not in repr(error)
        error = error.__cause__ or error.__context__


def test_credentials_that_a_registry_repeats_are_masked() -> None:
    """The header holds the password too, in an encoding that anyone can undo."""

    def answer(asked: Asked) -> Reply:
        return failure(401, 40101, f"denied: {asked.headers['Authorization']}")

    with (
        ScriptedRegistry(answer).serving() as registry,
        pytest.raises(RegistryRefusedError) as caught,
    ):
        prefix_of(made(registry.url, **bob()))

    assert "denied: Basic ***" in str(caught.value)
    assert _basic(f"bob:{_PASSWORD}").split()[1] not in repr(caught.value)


def test_a_password_that_was_exchanged_is_read_again(tmp_path: Path) -> None:
    """A refusal that crosses an exchange doesn't count."""
    file = tmp_path / "password"
    file.write_text("old")

    def answer(asked: Asked) -> Reply:
        if asked.headers["Authorization"] == _basic("bob:new"):
            return found(3)
        file.write_text("new")
        return failure(401, 40101, "Unauthorized")

    with ScriptedRegistry(answer).serving() as registry:
        assert prefix_of(made(registry.url, **bob(Secret.from_file(file))))[-1] == 3

    assert len(registry.asked) == 2


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("length", [0, 20])
def test_a_registry_that_hangs_is_left_in_time(length: int) -> None:
    """Whether it says nothing or not all of it."""
    reply = Reply(200, b" " * length + b"}", pause_seconds=5.0)
    started = time.monotonic()
    with ScriptedRegistry(always(reply)).serving() as registry:
        with pytest.raises(RegistryUnreachableError, match=r"within 0\.2 s"):
            prefix_of(made(registry.url, timeout_seconds=0.2))
        taken = time.monotonic() - started

    assert taken < 4


def test_an_outage_after_the_first_answer_changes_nothing() -> None:
    """The id that was given stays: it never comes to mean another schema."""
    replies = [found(5), failure(503, 50301, "no leader"), found(6)]
    with ScriptedRegistry(lambda _: replies.pop(0)).serving() as registry:
        client = made(registry.url)
        with structlog.testing.capture_logs() as logged:
            prefixes = [prefix_of(client) for _ in range(3)]

    assert [prefix[-1] for prefix in prefixes] == [5, 5, 6]
    assert [(one["event"], one["schema_id"]) for one in logged] == [
        ("registry.schema", 5),
        ("registry.id_kept", 5),
        ("registry.schema", 6),
    ]


def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is sent to no host that the settings don't name."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")

    with ScriptedRegistry(always(found(1))).serving() as registry:
        assert prefix_of(made(registry.url)) == b"\0\0\0\0\x01"


def test_only_trusted_certificates_are_spoken_to(tmp_path: Path) -> None:
    """The named authority's are taken, another's refused before anything is sent."""
    authority, stranger = trustme.CA(), trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    right, wrong = tmp_path / "right.pem", tmp_path / "wrong.pem"
    authority.cert_pem.write_to_path(str(right))
    stranger.cert_pem.write_to_path(str(wrong))

    with ScriptedRegistry(always(found(1)), tls).serving() as registry:
        with pytest.raises(RegistryRefusedError, match="SCHEMA_REGISTRY_CA_FILE"):
            prefix_of(made(registry.url, ca_file=str(wrong)))
        with pytest.raises(RegistryRefusedError, match="isn't trusted"):
            prefix_of(made(registry.url))
        assert registry.asked == []
        assert prefix_of(made(registry.url, ca_file=str(right))) == b"\0\0\0\0\x01"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("content", [None, "no certificate", "fifo"])
def test_a_file_of_authorities_that_is_none_is_named(
    tmp_path: Path, content: str | None
) -> None:
    """Whether it can't be read or is something else."""
    file = tmp_path / "ca.pem"
    if content == "fifo":
        os.mkfifo(file)
    elif content is not None:
        file.write_text(content)

    with pytest.raises(ConfigError, match=r"schema_registry\.ca_file"):
        prefix_of(made("https://127.0.0.1:9", ca_file=str(file)))
