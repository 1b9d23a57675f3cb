"""`brokers`: what faults of brokers do to memory and log; one course for each."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import trio

from tests.chaos.course import Course, Options, Say, Servers
from tests.chaos.faults import Fault, strike
from tests.chaos.runs import OUTAGE_BYTES, judge_topics
from tests.chaos.verdict import Verdict
from tests.chaos.vitals import MIB
from tests.kit.process import ProcessError


_CALM_SECONDS = 8.0

# A partition's longest pause is 10 s, a broker's way back into the replica set some
# more.
_CATCH_UP_SECONDS = 120.0
_ROWS_ON_THE_WAY = 20

# A handful of lines a minute.
_QUIET_LINES = 20


async def measure(
    fault: Fault, servers: Servers, options: Options, say: Say
) -> tuple[Course, Verdict]:
    """Let a fault happen under load, and measure and judge what became of it."""
    say(f"{fault.name} ...")
    course = Course(
        f"brokers-{fault.name}",
        servers,
        options,
        configs=(
            {"min.insync.replicas": str(fault.in_sync)} if fault.in_sync else None
        ),
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
        try:
            await bridge.wait_metrics(lambda now: now.waiting <= few, _CATCH_UP_SECONDS)
        except ProcessError:
            if not bridge.running:
                raise
            course.findings.append(f"it did not catch up in {_CATCH_UP_SECONDS:g} s")
        after, lines = await watch.look(), bridge.all_output.count("\n") - lines
        await course.finish(calm_seconds=1.0)
    assert before is not None
    assert after is not None
    assert happened.ended is not None
    verdict, _ = await judge_topics(course, repeats=True)
    during = [each for each in watch.samples if happened.begun <= each.at <= after.at]
    peak = max(each.rss_bytes for each in during)
    lines_a_minute = 60 * lines / (after.at - happened.begun)
    reconnects = (after.connects or 0) - 1
    if reconnects:
        verdict.findings.append(f"the session was subscribed {reconnects} times more")
    if lines_a_minute > _QUIET_LINES:
        verdict.findings.append(f"{lines_a_minute:.0f} log lines a minute")
    if peak > before.rss_bytes + OUTAGE_BYTES:
        grown = (peak - before.rss_bytes) / MIB
        verdict.findings.append(f"memory grew by {grown:.0f} MiB")
    verdict.findings = [f"{fault.name}: {line}" for line in verdict.findings]
    output = [json.loads(line) for line in bridge.all_output.splitlines()]
    verdict.figures |= {
        "logged": Counter(
            f"{line['event']} ({line['error']})" if "error" in line else line["event"]
            for line in output
        ),
        "log lines a minute": round(lines_a_minute),
        "memory before": str(before),
        "highest memory": f"{peak / MIB:.1f} MiB",
        "memory after": str(after),
        "most waiting": max(each.waiting or 0 for each in during),
        "caught up after": f"{after.at - happened.ended:.1f} s",
    }
    return course, verdict
