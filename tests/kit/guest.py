"""A user of the secure Kafka who may do nothing but what he was allowed."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.kit.broker import KafkaBroker
from tests.kit.secure_kafka import PASSWORD, SecureKafka


_PATIENCE_SECONDS = 30.0


class Right(msgspec.Struct, frozen=True):
    """One right, as `kafka-acls.sh` gives it."""

    kind: ResourceType
    name: str
    operation: AclOperation
    prefixed: bool = False


def grant(broker: KafkaBroker, user: str, *rights: Right) -> None:
    """Grant permissions to a user."""
    bindings = [AclBinding(*_entry(user, right)) for right in rights]
    for created in broker.admin.create_acls(bindings).values():
        created.result(_PATIENCE_SECONDS)


def revoke(broker: KafkaBroker, user: str, *rights: Right) -> None:
    """Revoke permissions that a user has."""
    asked = [AclBindingFilter(*_entry(user, right)) for right in rights]
    for deleted in broker.admin.delete_acls(asked).values():
        assert deleted.result(_PATIENCE_SECONDS)


def _entry(user: str, right: Right) -> tuple[Any, ...]:
    pattern = ResourcePatternType.LITERAL
    if right.prefixed:
        pattern = ResourcePatternType.PREFIXED
    who = f"User:{user}", "*"
    allow = AclPermissionType.ALLOW
    return right.kind, right.name, pattern, *who, right.operation, allow


class Guest:
    """A new user at the listener `SCRAM`, without permissions at first."""

    def __init__(self, secure: SecureKafka) -> None:
        self.name = f"guest-{uuid.uuid4().hex[:8]}"
        self._secure = secure
        secure.set_password(self.name, PASSWORD)

    def settings(self) -> dict[str, object]:
        """Give the bridge's settings with which he comes."""
        return {**self._secure.settings("SCRAM"), "sasl_username": self.name}

    def allow(self, *rights: Right) -> None:
        """Grant permissions."""
        grant(self._secure, self.name, *rights)

    def forbid(self, *rights: Right) -> None:
        """Revoke permissions."""
        revoke(self._secure, self.name, *rights)
