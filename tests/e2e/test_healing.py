"""What can be healed is healed: jobs that end within a gap end in Kafka all the same.

The short form of `make healing`, with its judge: one real gap, one account with
webhooks and one without.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from random import Random

import trio

from tests.chaos.course import Course, Options, Servers
from tests.chaos.faults import named, strike
from tests.chaos.runs import finish_healing, judge_jobs
from tests.chaos.upstream import Member, UpstreamAccount
from tests.kit.broker import KafkaBroker
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

_SEEN_SECONDS = 20.0


def _start(account: UpstreamAccount) -> str:
    return account.start_job(_STEPS, _INTERVAL_SECONDS, fails=False)


async def _live_in_the_gap(account: UpstreamAccount, done: str, failed: str) -> None:
    """Let two jobs end, and two others begin and end."""
    begun = [_start(account) for _ in range(2)]
    await trio.sleep(_INTERVAL_SECONDS * 2)
    for number, job in enumerate([done, failed, *begun]):
        await account.end_job(job, fails=number % 2 == 1)


async def _have_records(course: Course, jobs: set[bytes]) -> None:
    """Wait until a consumer has had a record of each job."""
    with trio.fail_after(_SEEN_SECONDS):
        while not jobs <= {  # noqa: ASYNC110 - a topic signals nothing
            record.key for record in course.follower.records[course.topic]
        }:
            await trio.sleep(0.1)


async def test_jobs_that_end_while_soketi_is_away_end_in_kafka(
    kafka: KafkaBroker, own_soketi: SoketiServer, tmp_path: Path
) -> None:
    """Done and failed ones, by both ways; what was never reported is lost, no more."""
    members = [
        Member("hooked", "token-1", "basic", webhooks=True),
        Member("bare", "token-2", "premium"),
    ]
    servers = Servers(kafka, own_soketi, tmp_path)
    name = f"healing-{uuid.uuid4().hex[:8]}"
    course = Course(name, servers, Options(), members=members, settings=_IMPATIENT)
    async with course.running():
        accounts = course.dryapi.accounts.values()
        jobs = {account: [_start(account) for _ in range(3)] for account in accounts}
        started = {job.encode() for begun in jobs.values() for job in begun}
        await _have_records(course, started)
        restart = named("soketi killed")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike, course, restart, Random(1), _DOWN_SECONDS)
            await trio.sleep(_INTERVAL_SECONDS)
            for account, (_, done, failed) in jobs.items():
                nursery.start_soon(_live_in_the_gap, account, done, failed)
        await course.bridge.wait_metrics(
            lambda now: now.total("bridge_subscribed") == len(jobs)
        )
        for account, (goes_on, _, _) in jobs.items():
            await account.end_job(goes_on, fails=False)
        await finish_healing(course)
    verdict = await judge_jobs(course)
    assert verdict.findings == []
    # Two of `bare`, that nothing reported.
    assert verdict.figures["jobs not on the topic"] == {"lost": 2}
    assert verdict.figures["jobs ended on the topic"].total() == 8
    healed = verdict.figures["of those in a gap"]
    assert healed["status-endpoint"] >= 2
    assert healed["webhook"] >= 2
    assert healed.total() == 6
    reported = verdict.figures["what gaps report"]
    # What gaps report is what became of their jobs.
    assert reported == healed
