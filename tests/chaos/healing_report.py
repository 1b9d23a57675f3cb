"""A run's figures for people, and as JSON for whoever compares runs.

Owns the words. What is found stands in `healing_verdict` and `healing_ledger`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.chaos.healing import HealingOutcome


__all__ = ["lines", "write"]


def lines(outcome: HealingOutcome) -> Iterator[str]:
    """Give the verdict, a line each."""
    verdict = outcome.verdict
    yield f"jobs upstream            {verdict.jobs.total():>7,}  ({_of(verdict.jobs)})"
    yield f"ended on the topic       {verdict.ways.total():>7,}  ({_of(verdict.ways)})"
    yield (
        f"  of those of a gap      {verdict.healed.total():>7,}"
        f"  ({_of(verdict.healed)})"
    )
    yield f"unknown, by the limits   {verdict.unknown:>7,}"
    yield f"lost, without webhooks   {verdict.lost:>7,}  (over before any was heard of)"
    if verdict.times:
        median, p99, longest = _spread(verdict.times)
        yield (
            f"from a gap's end to the job's on the topic: {median:.1f} s (median),"
            f" {p99:.1f} s (p99), {longest:.1f} s (longest)"
        )
    yield f"of the time that a job was allowed {verdict.used:.0%} was used at most"
    yield f"gaps                     {verdict.gaps.total():>7,}  ({_of(verdict.gaps)})"
    yield f"  what their records say          ({_of(verdict.settled) or 'nothing'})"
    yield (
        f"calls of the endpoint    {verdict.calls.total():>7,}  ({_of(verdict.calls)})"
    )
    yield (
        f"dead letters             {outcome.dead_letters.total():>7,}"
        f"  ({_of(outcome.dead_letters) or 'none'})"
    )
    yield f"records repeated         {verdict.repeats:>7,}  (same ce_id)"
    faults = Counter(fault.kind for fault in outcome.faults)
    yield f"faults                   {faults.total():>7,}  ({_of(faults)})"


def write(outcome: HealingOutcome, seed: int, folder: Path) -> Path:
    """Write the report and the bridge's log beside it; give the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"healing-{seed}.json"
    content = {
        "seed": seed,
        "accounts": [
            {
                "client_id": member.client_id,
                "plan": member.plan,
                "webhooks": member.webhook_url is not None,
                "jobs_per_second": member.job_rate,
            }
            for member in outcome.members
        ],
        "verdict": vars(outcome.verdict),
        "dead_letters": outcome.dead_letters,
        "gaps": {
            client_id: [
                # JSON has no infinity.
                asdict(gap) | {"since": None if gap.since < 0 else gap.since}
                for gap in gaps
            ]
            for client_id, gaps in outcome.gaps.items()
        },
        "faults": [asdict(fault) for fault in outcome.faults],
        "verified": outcome.verified,
    }
    report.write_text(json.dumps(content, indent=1))
    report.with_suffix(".log").write_text(outcome.log)
    return report


def _of(counter: Mapping[str, int]) -> str:
    ordered = Counter(counter).most_common()
    return ", ".join(f"{count:,} {name}" for name, count in ordered)


def _spread(times: Sequence[float]) -> tuple[float, float, float]:
    ordered = sorted(times)
    last = len(ordered) - 1
    return ordered[last // 2], ordered[min(last, int(0.99 * len(ordered)))], ordered[-1]
