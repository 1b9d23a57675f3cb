"""A bridge's surroundings in which all is well, and what `bridge check` reports."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from confluent_kafka.admin import AclOperation, ResourceType

from bridge.check.checks import check
from bridge.check.report import Line, Outcome, Report
from bridge.errors import ExitCode
from bridge.settings import Secret, load
from tests.kit.authorities import Authority, Identity
from tests.kit.dryapi import DryApi
from tests.kit.guarded import GuardedKafka
from tests.kit.publisher import Soketi
from tests.kit.secure_kafka import SecureKafka


CLIENT_ID = "42"
CANARY = "canary-of-a-token"

# Variables that differ from those of a bridge that works; None for one that is unset.
Changes = Mapping[str, str | None]

# Topics by what they are for, and the variable that names each.
ROLES = {
    "jobs": "BRIDGE_TOPIC",
    "letters": "BRIDGE_TOPICS_DEAD_LETTERS",
    "gaps": "BRIDGE_TOPICS_GAPS",
}

# What the bridge wants on each of them.
RIGHTS = (
    AclOperation.READ,
    AclOperation.WRITE,
    AclOperation.DESCRIBE,
    AclOperation.DESCRIBE_CONFIGS,
)

# One broker holds the suite's topics, and a tests' folder may lie in memory.
_OF_THE_SUITE = ("replication.factor: 1", "lies in memory")


def variables(kafka: Mapping[str, object]) -> dict[str, str | None]:
    """Give Kafka's settings as environment variables."""
    return {
        f"BRIDGE_KAFKA_{name.upper()}": (
            value.reveal() if isinstance(value, Secret) else str(value)
        )
        for name, value in kafka.items()
    }


@dataclass
class Servers:
    """What several grounds share."""

    soketi: Soketi
    guarded: GuardedKafka
    secure: SecureKafka
    authority: Authority
    topics: Mapping[str, str]


@dataclass
class Ground:
    """All that a bridge needs."""

    folder: Path
    servers: Servers
    api: DryApi
    environ: dict[str, str | None]
    stack: ExitStack

    @classmethod
    def make(cls, folder: Path, servers: Servers, stack: ExitStack) -> Self:
        """Give a ground on which all is well."""
        api = stack.enter_context(DryApi(servers.soketi, {CLIENT_ID: CANARY}).serving())
        environ = {
            "BRIDGE_CLIENT_ID": CLIENT_ID,
            "BRIDGE_API_TOKEN": CANARY,
            "BRIDGE_API_URL": api.url,
            "BRIDGE_PUSHER_URL": servers.soketi.url,
            "BRIDGE_PUSHER_APP_KEY": servers.soketi.app.key,
            "BRIDGE_OUTBOX_DIR": str(folder / "outbox"),
            **servers.topics,
            **variables(servers.guarded.credentials),
        }
        return cls(folder, servers, api, environ, stack)

    @staticmethod
    def make_topics(
        guarded: GuardedKafka,
        *,
        configs: Mapping[str, Mapping[str, str]] | None = None,
        rights: Mapping[str, Iterable[AclOperation]] | None = None,
        missing: Iterable[str] = (),
    ) -> dict[str, str]:
        """Make topics with names of their own, as they should be but for some."""
        mark = uuid.uuid4().hex[:12]
        names = {}
        for role, variable in ROLES.items():
            # None begins with another one: ACLs match prefixes.
            names[variable] = name = f"{role}-{mark}"
            if role not in missing:
                guarded.create_topic(name, 1, (configs or {}).get(role))
            granted = (rights or {}).get(role, RIGHTS)
            if granted:
                guarded.allow(ResourceType.TOPIC, name, *granted)
        return names

    def dryapi(
        self,
        accounts: Mapping[str, str] | None = None,
        *,
        soketi: Soketi | None = None,
        **options: Any,
    ) -> DryApi:
        """Start another dryAPI, for other accounts or in front of another soketi."""
        soketi = soketi or self.servers.soketi
        api = DryApi(soketi, accounts or {CLIENT_ID: CANARY}, **options)
        return self.stack.enter_context(api.serving())

    def answering(self, path: str, **answer: Any) -> Changes:
        """Start another dryAPI, which answers so, and give the variable for it."""
        api = self.dryapi()
        api.answer(path, **answer)
        return {"BRIDGE_API_URL": api.url}

    def tls_port(self, identity: Identity) -> int:
        """Start a server that shows a certificate, and give its port."""
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(identity.certificate, identity.key)
        return self.dryapi(tls=tls).port

    async def check(
        self,
        changes: Changes | None = None,
        config: Path | None = None,
        **options: float,
    ) -> Report:
        """Check, with some settings changed or in a file."""
        environ = {
            name: value
            for name, value in {**self.environ, **(changes or {})}.items()
            if value is not None
        }
        loaded = load({}, environ, config)
        return await check(loaded.settings, loaded.warnings, **options)


def remarkable(report: Report) -> list[Line]:
    """Give the lines that aren't ok, or skipped because of one of these."""
    return [
        line
        for line in report.lines
        if line.outcome not in {Outcome.OK, Outcome.SKIPPED}
        and not line.detail.startswith(_OF_THE_SUITE)
    ]


def check_told(
    report: Report,
    told: str,
    outcome: Outcome = Outcome.FAILURE,
    exit_code: ExitCode = ExitCode.FAILED,
) -> None:
    """See that one step reports a fault, with words and a hint, and in time."""
    step, *words = told.split("|")
    lines = remarkable(report)
    assert {(line.step, line.outcome) for line in lines} == {(step, outcome)}, lines
    assert all(line.hint for line in lines)
    text = " ".join(f"{line.detail} {line.hint}" for line in lines)
    assert [word for word in words if word not in text] == [], text
    assert report.exit_code is exit_code
    assert report.seconds < 10
    assert "canary" not in str(report)
    for line in report.lines:
        if line.outcome is Outcome.SKIPPED:
            assert line.detail.startswith(("needs " + step, "needs the topic"))


def details(report: Report, step: str) -> list[tuple[Outcome, str, str]]:
    """Give outcome, subject and detail of a step's lines."""
    return [
        (one.outcome, one.subject, one.detail)
        for one in report.lines
        if one.step == step
    ]
