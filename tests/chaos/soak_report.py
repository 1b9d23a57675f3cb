"""A soak's verdict for people, and as JSON for whoever compares runs.

Owns the words. What is found stands in `soak_verdict` and `restarts`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.chaos.restarts import most_connects, returns, summary
from tests.chaos.soak import Outcome
from tests.chaos.soak_verdict import TOLERANCE_SECONDS
from tests.chaos.stage import Options
from tests.chaos.vitals import Life, lives


__all__ = ["lines", "write"]

_MIB = 2**20


def lines(outcome: Outcome) -> Iterator[str]:
    """Give the verdict, a line each."""
    verdict = outcome.verdict
    witnessed, missed = outcome.witnessed
    unsure, taken = verdict.unsure
    yield f"events emitted                  {verdict.emitted:>9,}"
    yield f"  on the topic                  {verdict.on_topic:>9,}"
    yield (
        f"  covered by a reported gap     {verdict.covered:>9,}  (to within"
        f" {1000 * TOLERANCE_SECONDS:g} ms)"
    )
    yield f"  neither                       {len(verdict.neither):>9,}"
    yield f"events emitted perhaps          {unsure:>9,}  ({taken:,} on the topic)"
    yield (
        f"soketi delivered to a witness   {witnessed - missed:>9,}"
        f"  of {witnessed:,} emitted while it listened"
    )
    causes = _counts(Counter(gap.cause for gap in outcome.gaps))
    yield f"gaps                            {len(outcome.gaps):>9,}  ({causes})"
    yield f"  false                         {len(verdict.false_gaps):>9,}"
    yield f"  events on the topic in a gap  {verdict.spared:>9,}"
    yield f"records repeated                {verdict.repeats:>9,}  (same ce_id)"
    yield (
        f"faults                          {len(outcome.faults):>9,}"
        f"  ({_counts(outcome.kinds)})"
    )
    yield (
        f"connects                        {len(outcome.accepts):>9,}"
        f"  ({outcome.subscriptions:,} subscribed)"
    )
    yield from summary(outcome)
    of_bridge = lives(outcome.looks)
    yield f"lives of the bridge, from when it was warm: {len(of_bridge)}"
    for life in of_bridge:
        yield f"  {_life(life)}"


def write(outcome: Outcome, options: Options, folder: Path, name: str) -> Path:
    """Write the report and the bridge's log beside it; give the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{name}-{options.seed}.json"
    verdict = asdict(outcome.verdict)
    verdict["neither"] = [each._asdict() for each in outcome.verdict.neither]
    content = {
        "options": asdict(options),
        "verdict": verdict,
        "witnessed": outcome.witnessed[0],
        "missed_by_witness": outcome.witnessed[1],
        "gaps": [
            # JSON has no infinity.
            asdict(gap) | {"since": None if gap.since < 0 else gap.since}
            for gap in outcome.gaps
        ],
        "faults": [asdict(fault) for fault in outcome.faults],
        "connects": len(outcome.accepts),
        "subscriptions": outcome.subscriptions,
        "most_connects_in_10_seconds": most_connects(outcome.accepts),
        "restarts": [
            {"begun": fault.begun, "up": fault.up, "gaps": [g.gap_id for g in over]}
            for fault, over in returns(outcome.faults, outcome.gaps)
        ],
        "lives": [asdict(life) for life in lives(outcome.looks)],
        "looks": [asdict(look) for look in outcome.looks],
    }
    report.write_text(json.dumps(content, indent=1, default=str))
    report.with_suffix(".log").write_text(outcome.log)
    return report


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _life(life: Life) -> str:
    first, last = life.first, life.last
    slope = life.rss_bytes_per_hour
    return (
        f"{life.seconds:>6.0f} s: RSS {first.rss_bytes / _MIB:.1f} to"
        f" {last.rss_bytes / _MIB:.1f} MiB"
        + ("" if slope is None else f" ({slope / _MIB:+.1f} MiB an hour)")
        + f", descriptors {first.descriptors} to {last.descriptors},"
        f" threads {first.threads} to {last.threads},"
        f" tasks {first.tasks} to {last.tasks}"
    )
