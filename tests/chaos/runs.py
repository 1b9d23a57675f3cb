"""What each command does with a course, and what it demands of it.

brokers    lets brokers fail, and measures what that costs
kills      ends the bridge again and again, and looks each time at what was on disk
soak       lets everything fail, for a time
restarts   restarts soketi again and again
healing    lets jobs end before, within and across gaps
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

import trio

from bridge.sandbox.config import Plan
from tests.chaos.course import STALE_SECONDS, Course, Options, Say, Servers
from tests.chaos.faults import (
    RESTARTS_UP_SECONDS,
    Fault,
    choose,
    drawn_by,
    named,
    run_lanes,
    strike,
    supervise,
)
from tests.chaos.healing import judge_healing, settling_seconds, waiting
from tests.chaos.load import NumberedEvent, read_event
from tests.chaos.truth import Span, Truth
from tests.chaos.upstream import Member
from tests.chaos.verdict import (
    Evidence,
    Verdict,
    false_gaps,
    judge_course,
    judge_growth,
    judge_restarts,
)
from tests.chaos.vitals import MIB
from tests.kit.bridge_process import rows_in
from tests.kit.expected import Expected
from tests.kit.gap_judge import Gap, read_gaps
from tests.kit.judge import judge
from tests.kit.reader import Record


# The relay keeps up to 32 MiB of rows in memory, and Python's objects take half as
# much again; what waits beyond that is only on disk.
OUTAGE_BYTES = 64 * MIB

_PROGRESS_SECONDS = 60.0
_LOOK_SECONDS = 0.5


async def judge_topics(
    course: Course,
    committed: Mapping[str, NumberedEvent] | None = None,
    *,
    repeats: bool,
) -> tuple[Verdict, Evidence]:
    """Read the topics of a bridge that has ended, and judge."""
    ground = course.load.ground
    evidence = Evidence(
        await course.read_topics(),
        ground,
        course.faults,
        course.watch.samples,
        course.proxy.accepts,
        committed,
        repeats=repeats and course.options.delivery != "transactional",
        sources=course.sources,
    )
    verdict = judge_course(evidence)
    verdict.findings[:0] = course.findings
    return verdict, evidence


async def _until(condition: Callable[[], bool], seconds: float = math.inf) -> None:
    """Look until something is so, for so long at most."""
    with trio.move_on_after(seconds):
        # Neither a topic nor the sandbox signals what is waited for.
        while not condition():  # noqa: ASYNC110
            await trio.sleep(_LOOK_SECONDS)


# -- kills ----------------------------------------------------------------


async def kills(
    count: int, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """End the bridge so many times, let it finish, and judge the topic."""
    course = Course("kills", servers, options)
    random = Random(options.seed)
    committed: dict[str, NumberedEvent] = {}
    copy = servers.folder / "copy"

    def look_at_copy() -> None:
        """Remember what was on disk: an event in a dead bridge's file is committed."""
        for row in rows_in(copy):
            if row.ce_id not in committed and row.topic == course.topic:
                committed[row.ce_id] = read_event(row.value)
        shutil.rmtree(copy)

    async with course.running():
        for number in range(1, count + 1):
            # The first start makes the file that the others look at.
            first = [named("killed under load")]
            faults = first if number == 1 else drawn_by("kills")
            fault, seconds = choose("kills", random, faults)
            async with trio.open_nursery() as nursery:
                if number > 1:
                    course.bridge.start()
                    nursery.start_soon(trio.to_thread.run_sync, look_at_copy)
                await strike(course, fault, random, seconds)
            course.bridge.kill()
            course.bridge.copy_file(copy)
            say(
                f"{number:>4}/{count}  {fault.name:<30}"
                f"{len(course.load.ground.emitted):>9,} emitted"
                f" {len(committed):>9,} committed before"
            )
        await trio.to_thread.run_sync(look_at_copy)
        course.bridge.start()
        await course.finish(calm_seconds=1.0)
        course.bridge.copy_file(copy)
        await trio.to_thread.run_sync(look_at_copy)
    # A late write may repeat a record; here Kafka has always had time to take it first.
    verdict, _ = await judge_topics(course, committed, repeats=False)
    verdict.figures["events committed"] = len(committed)
    return course, verdict


# -- brokers --------------------------------------------------------------

_CALM_SECONDS = 8.0

# A partition's longest pause is 10 s, a broker's way back into the replica set some
# more.
_CATCH_UP_SECONDS = 120.0
_ROWS_ON_THE_WAY = 20

# A handful of lines a minute.
_QUIET_LINES = 20


async def brokers(
    fault: Fault, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Let brokers fail under load, and judge the topic, the memory and the log."""
    course = Course(
        f"brokers-{fault.name}",
        servers,
        options,
        say,
        configs={"min.insync.replicas": str(fault.in_sync)} if fault.in_sync else None,
        replication_factor=fault.copies,
        look_seconds=0.5,
    )
    async with course.running():
        watch, bridge = course.watch, course.bridge
        await trio.sleep(_CALM_SECONDS)
        before, lines = await watch.look(), bridge.all_output.count("\n")
        seconds = fault.draws["brokers"][1][0][0]
        happened = await strike(course, fault, Random(options.seed), seconds)
        # What is on its way in any moment of the steady load.
        few = max(watch.samples[0].waiting or 0, _ROWS_ON_THE_WAY)
        with course.ending():
            await bridge.wait_metrics(lambda now: now.waiting <= few, _CATCH_UP_SECONDS)
        after, lines = await watch.look(), bridge.all_output.count("\n") - lines
        await course.finish(calm_seconds=1.0)
    verdict, _ = await judge_topics(course, repeats=True)
    if before is None or after is None or happened.ended is None:
        verdict.findings.append(f"{fault.name}: the bridge has ended")
        return course, verdict
    during = [each for each in watch.samples if happened.begun <= each.at <= after.at]
    peak = max(each.rss_bytes for each in during)
    lines_a_minute = round(60 * lines / (after.at - happened.begun))
    if (after.connects or 0) != 1:
        verdict.findings.append(f"the session was subscribed {after.connects} times")
    if lines_a_minute > _QUIET_LINES:
        verdict.findings.append(f"{lines_a_minute} log lines a minute")
    if peak > before.rss_bytes + OUTAGE_BYTES:
        grown = (peak - before.rss_bytes) / MIB
        verdict.findings.append(f"memory grew by {grown:.0f} MiB")
    verdict.findings = [f"{fault.name}: {line}" for line in verdict.findings]
    verdict.figures |= {
        "log lines a minute": lines_a_minute,
        "memory before": str(before),
        "highest memory": f"{peak / MIB:.1f} MiB",
        "memory after": str(after),
        "most waiting": max(each.waiting or 0 for each in during),
        "caught up after": f"{after.at - happened.ended:.1f} s",
    }
    return course, verdict


# -- soak and restarts ----------------------------------------------------


async def soak(
    seconds: float, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Let faults happen for so long, and judge what is on the topics."""
    course = Course("soak", servers, options, say)
    async with course.running():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report_progress, course)
            nursery.start_soon(supervise, course)
            with trio.move_on_after(seconds):
                await run_lanes(course, "soak", options.seed)
            nursery.cancel_scope.cancel()
        # One that ends by itself from here on stays down, and is found.
        if not course.bridge.running:
            course.bridge.start()
        await course.finish()
    verdict, evidence = await judge_topics(course, repeats=True)
    # It may end in the middle of an outage, with rows and sockets for it.
    judge_growth(verdict, evidence, few=20, flat_bytes=OUTAGE_BYTES)
    return course, verdict


async def _report_progress(course: Course) -> None:
    while True:
        await trio.sleep(_PROGRESS_SECONDS)
        emitted = len(course.load.ground.emitted)
        course.tell(f"{emitted:,} events emitted, {len(course.faults)} faults")


_SUBSCRIBED_SECONDS = 60.0


async def restarts(
    times: int, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Restart soketi so many times, and judge what is on the topics."""
    course = Course("restarts", servers, options, say)
    random = Random(options.seed)

    async def up() -> None:
        await trio.sleep(random.uniform(*random.choice(RESTARTS_UP_SECONDS)))

    async def subscriptions() -> int:
        numbers = await course.bridge.metrics()
        return numbers.total("bridge_connects_total", outcome="subscribed")

    async with course.running():
        # Warm, so that growth is growth.
        await up()
        for _ in range(times):
            fault, seconds = choose("restarts", random, drawn_by("restarts"))
            before = await subscriptions()
            await strike(course, fault, random, seconds)
            with trio.fail_after(_SUBSCRIBED_SECONDS):
                # Another process changes what is looked at.
                while await subscriptions() == before:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            course.tell("subscribed")
            await up()
        await course.finish()
    verdict, evidence = await judge_topics(course, repeats=True)
    judge_restarts(verdict, evidence)
    judge_growth(verdict, evidence)
    return course, verdict


# -- healing --------------------------------------------------------------

_JOBS_END_SECONDS = 60.0
# A try's wait, after as many as several long gaps in a row cost, and its answer.
_DELIVER_SECONDS = 120.0

# Jobs a second. Basic accounts may ask 150 times a day beside the reserve: the few
# are healed for some minutes, of the many some must stay unknown.
_PLANS: Sequence[Plan] = ("basic", "premium")
_JOB_RATES: Mapping[Plan, Sequence[float]] = {"basic": (0.3, 3.0), "premium": (1.5,)}


async def healing(
    seconds: float, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Let jobs and gaps happen for so long, and judge what is on the topics."""
    random = Random(options.seed)
    # Mostly one account with webhooks and one without.
    (with_webhooks,) = random.choices([(True, False), (False, False)], [3, 1])
    members = []
    for number, hooked in enumerate(with_webhooks, 1):
        plan = random.choice(_PLANS)
        rate = random.choice(_JOB_RATES[plan])
        name, token = f"healing-{number}", f"token-{number}"
        members.append(Member(name, token, plan, webhooks=hooked, job_rate=rate))
        say(f"account {members[-1]}")
    course = Course("healing", servers, options, say, members=members)
    async with course.running():
        async with trio.open_nursery() as nursery:
            for account in course.dryapi.accounts.values():
                random = Random(f"{options.seed}/{account.member.client_id}")
                nursery.start_soon(account.start_jobs, random)
            with trio.move_on_after(seconds):
                await run_lanes(course, "healing", options.seed)
            nursery.cancel_scope.cancel()
        await finish_healing(course)
    return course, await judge_jobs(course)


async def finish_healing(course: Course) -> None:
    """Wait until all that can be known is on the topics, then end the bridge."""
    accounts = course.dryapi.accounts.values()
    with trio.fail_after(_JOBS_END_SECONDS):
        await _until(lambda: not any(account.running for account in accounts))

    def none_waits() -> bool:
        seen = course.follower.seen_of(course.topic)
        records = course.follower.records[course.topic]
        left = waiting(_truth(course), records, seen, _gaps(course))
        # What is waited for in vain is found by the judge.
        return not any(until >= time.time() for until in left.values())

    with course.ending():
        await course.bridge.wait_ready()
        await _until(none_waits)
        # Webhooks of jobs whose end was learned otherwise meanwhile.
        await _until(
            lambda: not any(each.open_webhooks for each in accounts), _DELIVER_SECONDS
        )
        records = course.follower.records[course.topic]
        await _until(
            lambda: all(
                gap.unknown is not None for own in _gaps(course).values() for gap in own
            ),
            settling_seconds(_truth(course), records),
        )
        await course.stop_bridge()


async def judge_jobs(course: Course) -> Verdict:
    """Read the topics of a bridge that has ended, and judge."""
    topics = await course.read_topics()
    expected = Expected(
        repeats=course.options.delivery != "transactional",
        origins={"socket", "status-endpoint", "webhook"},
        sources=course.sources,
        marks={"progress_number"},  # the status endpoint answers with one
        # The socket's own event, behind a webhook that was released.
        dead_letters={"after_terminal": None},
    )
    judged = judge(topics, expected)
    verdict = Verdict(judged.findings, gaps=judged.gaps, repeats=judged.repeats)
    verdict.findings[:0] = course.findings
    seen = course.follower.seen_of(course.topic)
    gaps = _by_account(course, judged.gaps)
    judge_healing(verdict, _truth(course), topics[0].records, seen, gaps)
    false = false_gaps(judged.gaps, course.faults)
    verdict.findings += [f"false: {gap}" for gap in false]
    # The bridge's own proof.
    command = [
        *(sys.executable, "-m", "bridge", "verify"),
        *("--topic", course.topic),
        *("--bootstrap-servers", course.servers.kafka.bootstrap_servers),
        *("--outbox-dir", str(course.bridge.outbox)),
    ]
    done = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        verdict.findings.append(f"bridge verify: {done.returncode}, {output}")
    verdict.figures |= {
        "gaps": Counter(gap.cause for gap in judged.gaps),
        "dead letters": Counter(
            record.headers["bridge_reason"].decode() for record in topics[1].records
        ),
        "records repeated": len(judged.repeats),
        "faults": Counter(fault.name for fault in course.faults),
    }
    return verdict


def _truth(course: Course) -> Truth:
    """Give what is known beside the bridge."""

    def spans(what: str) -> list[Span]:
        return [
            Span(fault.begun, fault.ended or math.inf)
            for fault in course.faults
            if fault.name.startswith(what)
        ]

    accounts = [account.close_books() for account in course.dryapi.accounts.values()]
    return Truth(accounts, spans("status"), spans("bridge"), STALE_SECONDS)


def _gaps(course: Course) -> dict[str, list[Gap]]:
    """Give the gaps that were reported until now."""
    once: dict[bytes, Record] = {}
    for record in course.follower.records[f"{course.topic}.gaps"]:
        once.setdefault(record.headers["ce_id"], record)
    return _by_account(course, read_gaps(list(once.values()))[0])


def _by_account(course: Course, gaps: Sequence[Gap]) -> dict[str, list[Gap]]:
    return {
        name: [gap for gap in gaps if gap.client_id == name]
        for name in course.dryapi.accounts
    }
