"""A real registry as the bridge meets it, looked at with Confluent's own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from bridge.errors import RegistryRefusedError
from bridge.schemas.json_schema import text_of
from tests.kit.registry import RegistryServer
from tests.schemas.scripted import made, prefix_of


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
    """Whoever copies the command out of the log has the schema there."""
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
