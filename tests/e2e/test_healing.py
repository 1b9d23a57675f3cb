"""What can be healed is healed: jobs that end within a gap end in Kafka all the same.

The short form of `make healing`, with its judge: one real gap, one account with
webhooks and one without.
"""

from __future__ import annotations

from pathlib import Path

import trio

from tests.chaos.healing import HealingCourse
from tests.chaos.healing_stage import HealingPlace, webhook_url
from tests.chaos.soak_faults import restart_soketi
from tests.chaos.upstream import Member, UpstreamAccount
from tests.conftest import Topic
from tests.kit.broker import KafkaBroker
from tests.kit.process import free_ports
from tests.kit.soketi import SoketiServer


# Waits that are long for people's sake, and for nothing here.
_IMPATIENT = {
    "WEBHOOK_HOLD_SECONDS": "1",
    "PUSHER_BACKOFF_INITIAL_SECONDS": "0.1",
    "KAFKA_RETRY_BACKOFF_SECONDS": "0.1",
}

_DOWN_SECONDS = 1.0

# It emits an event every fifth of a second until it is ended.
_STEPS, _INTERVAL_SECONDS = 1_000, 0.2


def _start(account: UpstreamAccount) -> str:
    return account.start_job(_STEPS, _INTERVAL_SECONDS, fails=False)


async def _live_in_the_gap(account: UpstreamAccount, done: str, failed: str) -> None:
    """Let two jobs end, and two others begin and end."""
    begun = [_start(account) for _ in range(2)]
    await trio.sleep(_INTERVAL_SECONDS * 2)
    for number, job in enumerate([done, failed, *begun]):
        await account.end_job(job, fails=number % 2 == 1)


async def test_jobs_that_end_while_soketi_is_away_end_in_kafka(
    kafka: KafkaBroker, own_soketi: SoketiServer, topic: Topic, tmp_path: Path
) -> None:
    """Done and failed ones, by both ways; what nobody told of is lost, and no more."""
    (port,) = free_ports(1)
    hooked = Member("hooked", "token-1", "basic", webhook_url(port, "hooked"))
    bare = Member("bare", "token-2", "premium")
    course = HealingCourse(
        HealingPlace(kafka, own_soketi, topic.name, tmp_path),
        [hooked, bare],
        port,
        settings=_IMPATIENT,
    )
    async with course.running(seed=1):
        jobs = {
            account: [_start(account) for _ in range(3)] for account in course.accounts
        }
        await course.heard({job for begun in jobs.values() for job in begun})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                restart_soketi, own_soketi, course.log, "killed", _DOWN_SECONDS
            )
            await trio.sleep(_INTERVAL_SECONDS)
            for account, (_, done, failed) in jobs.items():
                nursery.start_soon(_live_in_the_gap, account, done, failed)
        await course.bridge.wait_metrics(
            lambda now: now.total("bridge_subscribed") == len(jobs)
        )
        for account, (goes_on, _, _) in jobs.items():
            await account.end_job(goes_on, fails=False)
        await course.finish()
        outcome = await course.judge()
    verdict = outcome.verdict
    assert verdict.findings == []
    # Two of `bare`, that nobody told of.
    assert (verdict.lost, verdict.unknown) == (2, 0)
    assert verdict.ways.total() == 8
    assert verdict.healed["status-endpoint"] >= 2
    assert verdict.healed["webhook"] >= 2
    assert verdict.healed.total() == 6
