"""
The Schema Registry, if one is set: whether it has the schemas of the topics.

It is given none. How it is asked stands in `bridge.schemas.registry`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bridge.doctor.branch import Branch
from bridge.doctor.remedies import ProblemError
from bridge.errors import ExitCode, RegistryUnknownSchemaError
from bridge.schemas.registry import SchemaRegistry
from bridge.settings import Settings


__all__ = ["registry_branches", "walk_registry"]

_SECONDS: Final = 3.0

_REMEDY: Final = (
    "See that it runs, and that schema_registry.url (BRIDGE_SCHEMA_REGISTRY_URL) names"
    " it"
)


def registry_branches(settings: Settings, end: float) -> list[Branch]:
    """Give a branch for each topic with a schema; none without a registry."""
    if settings.schema_registry.url is None:
        return []
    topics = (settings.topic, settings.gap_topic)
    silence = {
        "schema_registry": ProblemError("the Schema Registry says nothing", _REMEDY)
    }
    return [
        Branch(topic, ["schema_registry"], end, silence, ExitCode.REFUSED_BY_KAFKA)
        for topic in topics
    ]


async def walk_registry(branch: Branch, settings: Settings) -> None:
    """Ask for the schema of a topic."""
    given = settings.schema_registry
    # Looked up alone, and given up before the step's own deadline.
    asking = msgspec.structs.replace(
        given,
        register=False,
        timeout_seconds=min(given.timeout_seconds, 0.9 * _SECONDS),
    )
    with branch, branch.step("schema_registry", _SECONDS) as found:
        registry = SchemaRegistry(
            msgspec.structs.replace(settings, schema_registry=asking)
        )
        try:
            prefix = await registry.prefix(branch.subject)
        except RegistryUnknownSchemaError:
            if not given.register:
                raise
            found.detail = "not registered yet; the bridge registers it at its start"
        else:
            found.detail = f"schema {int.from_bytes(prefix[1:])}"
