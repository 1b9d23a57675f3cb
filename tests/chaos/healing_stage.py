"""The stage of `make healing`: accounts and their jobs, the bridge's files, its topics.

Owns what a run begins with, and how topics are read at its end. The course of a run
is `healing`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from bridge.sandbox.config import Plan
from tests.chaos.stage import PARTITIONS
from tests.chaos.upstream import Member, UpstreamAccount
from tests.kit.bridge_process import BridgeProcess
from tests.kit.broker import KafkaBroker
from tests.kit.reader import Record, read_topic
from tests.kit.soketi import SoketiServer


__all__ = [
    "SILENT_SECONDS",
    "HealingPlace",
    "draw_members",
    "start_jobs",
    "webhook_url",
]

SILENT_SECONDS = 20.0
"""A job that fails is silent from then on; asked after that long without a gap."""

# Jobs last from less than a second to half a minute: some end before a gap, some
# begin and end within one, some go on over it.
_STEPS = (0, 20)
_INTERVAL_SECONDS = (0.2, 1.5)
_FAIL_SHARE = 0.25

# Jobs a second. Basic accounts may ask 150 times a day beside the reserve: the few
# are healed for some minutes, of the many some must stay unknown.
_JOB_RATES = {"basic": (0.3, 3.0), "premium": (1.5,)}

_PLANS: Sequence[Plan] = ("basic", "premium")

_READ_SECONDS = 60.0


@dataclass(frozen=True)
class HealingPlace:
    """The servers, the topic's name, and a folder."""

    kafka: KafkaBroker
    soketi: SoketiServer
    topic: str
    folder: Path

    def create_topics(self) -> None:
        """Create the topic and its companions."""
        self.kafka.create_topic(self.topic, PARTITIONS)
        for companion in ("dlq", "gaps"):
            self.kafka.create_topic(f"{self.topic}.{companion}", 1)

    def bridge(
        self,
        members: Sequence[Member],
        api_url: str,
        pusher_url: str,
        settings: Mapping[str, str],
    ) -> BridgeProcess:
        """
        Describe the bridge.

        Args:
            members: Its accounts.
            api_url: Where its dryAPI is.
            pusher_url: Where it finds soketi.
            settings: More settings, as environment without `BRIDGE_`.
        """
        config = self.folder / "accounts.toml"
        config.write_text("\n".join(map(self._entry, members)))
        usual = {
            "API_URL": api_url,
            "PUSHER_URL": pusher_url,
            "PUSHER_APP_KEY": self.soketi.app.key,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "RECONCILIATION_SILENT_AFTER_SECONDS": f"{SILENT_SECONDS:g}",
        }
        return BridgeProcess(
            self.folder / "bridge",
            self.topic,
            usual | dict(settings),
            flags=["--config", str(config)],
        )

    def _entry(self, member: Member) -> str:
        secrets = {"api_token": member.token}
        if member.webhook_url:
            secrets["webhook_secret"] = member.webhook_secret
        lines = ["[[accounts]]", f"client_id = {json.dumps(member.client_id)}"]
        for name, secret in secrets.items():
            file = self.folder / f"{member.client_id}.{name}"
            file.write_text(secret)
            lines.append(f"{name}_file = {json.dumps(str(file))}")
        return "\n".join([*lines, ""])

    async def read(self, companion: str = "") -> list[Record]:
        """Read the topic to its end, or one beside it: `.gaps`, `.dlq`."""
        return await trio.to_thread.run_sync(
            read_topic,
            self.kafka.bootstrap_servers,
            self.topic + companion,
            None,
            _READ_SECONDS,
        )

    async def verify(self, outbox: Path) -> tuple[int, str]:
        """Let the bridge's own proof say whether the topic is whole: code and words."""
        command = [
            *(sys.executable, "-m", "bridge", "verify"),
            *("--topic", self.topic),
            *("--bootstrap-servers", self.kafka.bootstrap_servers),
            *("--outbox-dir", str(outbox)),
        ]
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def webhook_url(port: int, client_id: str) -> str:
    """Give the address to which an account's webhooks go."""
    return f"http://127.0.0.1:{port}/webhooks/dryapi/{client_id}"


def draw_members(random: Random, port: int) -> list[Member]:
    """Draw the accounts: mostly one with webhooks and one without."""
    (with_webhooks,) = random.choices([(True, False), (False, False)], [3, 1])
    members = []
    for number, hooked in enumerate(with_webhooks, 1):
        client_id = f"healing-{number}"
        plan = random.choice(_PLANS)
        members.append(
            Member(
                client_id,
                f"token-{number}",
                plan,
                webhook_url(port, client_id) if hooked else None,
                job_rate=random.choice(_JOB_RATES[plan]),
            )
        )
    return members


async def start_jobs(account: UpstreamAccount, random: Random) -> None:
    """Start jobs of an account until cancelled."""
    while True:
        account.start_job(
            random.randint(*_STEPS),
            random.uniform(*_INTERVAL_SECONDS),
            fails=random.random() < _FAIL_SHARE,
        )
        await trio.sleep(random.expovariate(account.member.job_rate))
