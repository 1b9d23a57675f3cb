"""What docs/operate/security.md has an operator grant, read from its commands."""

from __future__ import annotations

import argparse
import asyncio  # noqa: TID251 - runs the room's coroutines
import shlex
from pathlib import Path

from confluent_kafka.admin import AclOperation, ResourceType

from bridge.errors import KafkaError
from bridge.kafka.loop import ClosingLoop
from bridge.kafka.probe import diagnose
from bridge.settings import KafkaSettings
from tests.kit.guest import Right


_PAGE = Path(__file__).parents[3] / "docs" / "operate" / "security.md"
_TOOL = "kafka-acls.sh"


def documented(topic: str, user: str = "bridge") -> list[Right]:
    """Give every right that the page's commands grant, for another topic than `jobs`.

    Args:
        topic: The value of `--topic`.
        user: Whom they grant it: the bridge's user, or another command's own.
    """
    parser = argparse.ArgumentParser()
    for flag in ("--bootstrap-server", "--allow-principal", "--topic"):
        parser.add_argument(flag)
    parser.add_argument("--transactional-id")
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--operation", action="append")
    parser.add_argument("--resource-pattern-type", default="literal")
    rights = []
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith(_TOOL):
            continue
        given = parser.parse_args(shlex.split(line)[1:])
        if given.allow_principal != f"User:{user}":
            continue
        kind, name = ResourceType.TRANSACTIONAL_ID, given.transactional_id
        if name is None:
            kind, name = ResourceType.TOPIC, given.topic.replace("jobs", topic)
        is_prefix = given.resource_pattern_type == "prefixed"
        rights += [
            Right(kind, name, AclOperation[operation.upper()], is_prefix)
            for operation in given.operation
        ]
    return rights


def least(topic: str, delivery: str) -> list[Right]:
    """Give those that a bridge can't do without whose topics are there."""
    return [
        right
        for right in documented(topic)
        if right.operation is not AclOperation.CREATE
        and (right.kind is ResourceType.TOPIC or delivery == "transactional")
    ]


def diagnosed(settings: KafkaSettings) -> KafkaError | None:
    """Find out what keeps a client with these settings from the broker."""
    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosingLoop)
        try:
            return runner.run(diagnose(settings))
        finally:
            runner.run(loop.abort_connections())
