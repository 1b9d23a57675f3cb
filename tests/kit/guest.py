"""A user of the secure Kafka who may do nothing but what he was allowed.

Owns his name, his password and his rights, which come and go while he works.
"""

from __future__ import annotations

import uuid

import msgspec
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.kit.broker import admin_of
from tests.kit.secure_kafka import PASSWORD, SecureKafka


__all__ = ["Guest", "Right"]

_PATIENCE_SECONDS = 30.0


class Right(msgspec.Struct, frozen=True):
    """
    One right, as `kafka-acls.sh` gives it.

    Attributes:
        kind: On what.
        name: Its name.
        operation: What may be done.
        prefixed: Whether that holds for all that begins with the name.
    """

    kind: ResourceType
    name: str
    operation: AclOperation
    prefixed: bool = False

    @property
    def pattern(self) -> ResourcePatternType:
        """What the name stands for."""
        if self.prefixed:
            return ResourcePatternType.PREFIXED
        return ResourcePatternType.LITERAL


class Guest:
    """Somebody new at the listener `SCRAM`, without any right at first."""

    def __init__(self, secure: SecureKafka) -> None:
        self.name = f"guest-{uuid.uuid4().hex[:8]}"
        self._secure = secure
        self._admin = admin_of(secure.bootstrap_servers)
        secure.set_password(self.name, PASSWORD)

    def settings(self) -> dict[str, object]:
        """Give the bridge's settings with which he comes."""
        return {**self._secure.settings("SCRAM"), "sasl_username": self.name}

    def allow(self, *rights: Right) -> None:
        """Give him rights."""
        bindings = [
            AclBinding(
                right.kind,
                right.name,
                right.pattern,
                f"User:{self.name}",
                "*",
                right.operation,
                AclPermissionType.ALLOW,
            )
            for right in rights
        ]
        for future in self._admin.create_acls(bindings).values():
            future.result(_PATIENCE_SECONDS)

    def forbid(self, *rights: Right) -> None:
        """Take rights back that he has."""
        asked = [
            AclBindingFilter(
                right.kind,
                right.name,
                right.pattern,
                f"User:{self.name}",
                "*",
                right.operation,
                AclPermissionType.ALLOW,
            )
            for right in rights
        ]
        for future in self._admin.delete_acls(asked).values():
            assert future.result(_PATIENCE_SECONDS)
