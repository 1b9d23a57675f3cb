"""One fault's course: a while of calm, the fault, the catching up, the judgement.

Owns what is measured around a fault and the table of it. The faults stand in
`faults`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio
from rich.table import Table

from tests.chaos.faults import Fault, partitions_led_by
from tests.chaos.stage import PARTITIONS, Options, Servers, Stage
from tests.chaos.traffic import NumberedEvent, read_event
from tests.chaos.verdict import Verdict, judge
from tests.chaos.watch import Latency, Sample, Span, Watch, latency
from tests.kit.bridge_process import BridgeProcess
from tests.kit.process import ProcessError


__all__ = ["Measured", "measure", "table"]

_CALM_SECONDS = 8.0

# Events so shortly before the fault are hit by it.
_LULL_SECONDS = 0.5

# A lane's longest pause is 10 s, a broker's way back into the replica set some more.
_CATCH_UP_SECONDS = 120.0

_ROWS_ON_THE_WAY = 20

# The relay keeps up to 32 MiB of rows in memory, and Python's objects take half as
# much again; what waits beyond that is on disk alone.
_FLAT_BYTES = 64 * 2**20

# A handful of lines a minute.
_QUIET_LINES = 20

_MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """
    What a fault did.

    Attributes:
        fault: The fault.
        verdict: What the topic holds.
        fault_span: From its begin until everything ran again.
        catch_up_seconds: From then until nothing waited.
        most_waiting: The most rows that waited.
        before: A look before it.
        after: A look when nothing waited any more.
        peak_rss_bytes: The most memory at any time from the fault's begin.
        lines: Log lines from its begin until nothing waited.
        said: How often it logged what, with the error where there is one, over all.
        calm: Latencies before it.
        touched: Latencies of the partitions that it touches, of events emitted
            during it.
        others: The same of the other partitions; None if there are none.
    """

    fault: Fault
    verdict: Verdict
    fault_span: Span
    catch_up_seconds: float
    most_waiting: int
    before: Sample
    after: Sample
    peak_rss_bytes: int
    lines: int
    said: Mapping[str, int]
    calm: Latency | None
    touched: Latency | None
    others: Latency | None

    @property
    def lines_a_minute(self) -> float:
        """Log lines a minute, from its begin until nothing waited."""
        return 60 * self.lines / (self.fault_span.seconds + self.catch_up_seconds)

    @property
    def findings(self) -> list[str]:
        """Everything that is not as it should be."""
        found = list(self.verdict.findings)
        reconnects = self.after.connects - 1
        if reconnects:
            found.append(f"the session was subscribed {reconnects} times more")
        if self.lines_a_minute > _QUIET_LINES:
            found.append(f"{self.lines_a_minute:.0f} log lines a minute")
        grown = self.peak_rss_bytes - self.before.rss_bytes
        if grown > _FLAT_BYTES:
            found.append(f"memory grew by {grown / _MIB:.0f} MiB")
        return found


async def measure(
    fault: Fault, servers: Servers, options: Options, folder: Path
) -> Measured:
    """Let a fault happen under load, and measure and judge what became of it."""
    stage = Stage(
        f"chaos-{fault.name}",
        folder,
        servers,
        options,
        # Each record's time is when its leader took it.
        {"message.timestamp.type": "LogAppendTime", **fault.settings},
        fault.replication_factor,
    )
    try:
        return await _measure(fault, stage)
    finally:
        stage.bridge.kill()


async def _measure(fault: Fault, stage: Stage) -> Measured:
    bridge, watch = stage.bridge, Watch(stage.bridge)
    everything = set(range(PARTITIONS))
    await bridge.start_and_wait()
    async with stage.load() as load, trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        began = time.time()
        await trio.sleep(_CALM_SECONDS)
        touched = everything
        if fault.leader is not None:
            touched = set(
                await trio.to_thread.run_sync(partitions_led_by, stage, fault.leader)
            )
        before = await watch.look()
        fault_began = time.time()
        await fault.go(stage)
        whole = time.time()
        caught_up = await _caught_up(watch, bridge)
        after = await watch.look()
        await load.stop()
        nursery.cancel_scope.cancel()
    code = await bridge.stop()
    records = await stage.records()
    verdict = judge(records, _delivered(stage))
    if not caught_up:
        verdict.findings.append(f"it did not catch up in {_CATCH_UP_SECONDS:g} s")
    if code != 0:
        verdict.findings.append(f"it ended with {code} after SIGTERM")
    span = Span(fault_began, whole)
    until_calm = watch.within(replace(span, end=after.at))
    return Measured(
        fault=fault,
        verdict=verdict,
        fault_span=span,
        catch_up_seconds=after.at - whole,
        most_waiting=max(each.waiting for each in until_calm),
        before=before,
        after=after,
        peak_rss_bytes=max(each.rss_bytes for each in until_calm),
        lines=after.lines - before.lines,
        said=_said(bridge),
        calm=latency(records, Span(began, fault_began - _LULL_SECONDS), everything),
        touched=latency(records, span, touched),
        others=latency(records, span, everything - touched),
    )


async def _caught_up(watch: Watch, bridge: BridgeProcess) -> bool:
    """Wait until next to nothing waits, although events go on coming."""
    # What is on its way in any moment of the steady load.
    few = max(watch.samples[0].waiting, _ROWS_ON_THE_WAY)
    try:
        await bridge.wait_metrics(lambda now: now.waiting <= few, _CATCH_UP_SECONDS)
    except ProcessError:
        if not bridge.running:
            raise
        return False
    return True


def _said(bridge: BridgeProcess) -> Counter[str]:
    """Count log lines by what they say."""
    lines = [json.loads(line) for line in bridge.all_output.splitlines()]
    return Counter(
        f"{line['event']} ({line['error']})" if "error" in line else line["event"]
        for line in lines
    )


def _delivered(stage: Stage) -> dict[str, NumberedEvent]:
    """Give the events that the outbox's file counts as delivered."""
    waiting = {row.ce_id for row in stage.bridge.waiting_rows()}
    return {
        row.ce_id: read_event(row.value)
        for row in stage.bridge.rows()
        if row.topic == stage.topic and row.ce_id not in waiting
    }


def table(measured: Sequence[Measured]) -> Table:
    """Lay out what was measured."""
    made = Table(title="Faults of brokers (latency: p50 / p99 / longest)")
    for title in (
        "fault",
        "events",
        "findings",
        "repeats",
        "log lines/min",
        "MiB before, peak, after",
        "reconnects",
        "most waiting",
        "caught up after",
        "latency before",
        "during, touched keys",
        "during, other keys",
    ):
        made.add_column(title, justify="left" if title == "fault" else "right")
    for each in measured:
        sizes = each.before.rss_bytes, each.peak_rss_bytes, each.after.rss_bytes
        made.add_row(
            each.fault.meaning,
            f"{each.verdict.records:,}",
            str(len(each.findings)),
            str(len(each.verdict.repeats)),
            f"{each.lines_a_minute:.0f}",
            ", ".join(f"{size / _MIB:.0f}" for size in sizes),
            str(each.after.connects - 1),
            f"{each.most_waiting:,}",
            f"{each.catch_up_seconds:.1f} s",
            str(each.calm or "-"),
            str(each.touched or "-"),
            str(each.others or "-"),
        )
    return made
