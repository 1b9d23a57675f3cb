"""
`bridge verify`: reads the dead letters and the topic, and reports what is wrong.

`verifier` decides what is. Here is the order of reading, and what a report says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from rich.console import Console

from bridge.consumer.reading import OnProgress
from bridge.consumer.render import (
    cell,
    escaped,
    print_line,
    print_table,
)
from bridge.consumer.verifier import (
    Issue,
    Kind,
    OutboxReport,
    PartitionReport,
    RefusedSequences,
    Verifier,
)
from bridge.errors import KafkaRefusedError
from bridge.events.record import Origin
from bridge.kafka.scan import Extent, Take, scan
from bridge.outbox.survey import SurveyedOutbox
from bridge.settings import KafkaSettings


__all__ = ["Report", "show_report", "verify"]

# Outboxes that are shown: the others are counted.
_MAX_SHOWN = 200
# A UUID's first group distinguishes the outboxes of a topic.
_OUTBOX_CHARACTERS = 8

_MEANINGS = {
    Kind.HOLE: "sequences that no record has",
    Kind.DUPLICATE: "a record that is there twice",
    Kind.REORDERED: "a record behind one with a higher sequence",
    Kind.CONFLICT: "two events with the same sequence",
    Kind.REPEATED_ID: "one ce_id under two sequences or in two partitions",
    Kind.UNREADABLE: "a bridge's record without a readable sequence or ce_id",
    Kind.MISSING_END: "acknowledged in the outbox, but not on the topic",
}


class Report(msgspec.Struct, frozen=True):
    """The result, as programs get it in JSON."""

    topic: str
    clean: bool
    records: int
    isolation: str
    seconds: float
    partitions: list[PartitionReport]
    outboxes: list[OutboxReport]
    counts: dict[Kind, int]
    issues: list[Issue]  # the first ones of each kind
    notes: list[str]  # what was not verified, and what a reader should know


async def verify(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: KafkaSettings,
    topic: str,
    *,
    dead_letter_topic: str,
    since_ms: int | None = None,
    isolation: str = "read_committed",
    outboxes: Sequence[SurveyedOutbox] = (),
    on_progress: OnProgress = lambda _progress: None,
) -> Report:
    """
    Read a topic to its present ends, and report what is wrong with it.

    The dead letters say which records were refused. Outboxes to compare with are read
    before this is called, so that what they have acknowledged is on the topic.

    Raises:
        KafkaError: The topic can't be read; the subclass says why.
        ConfigError: A certificate or key can't be used.
    """
    began = time.monotonic()
    claims = [
        (outbox.id, one)
        for outbox in outboxes
        for one in outbox.partitions
        if one.topic == topic
    ]
    refused = RefusedSequences(topic)
    for outbox_id, one in claims:
        refused.add(outbox_id, one.partition, one.unsendable)
    verifier = Verifier({}, refused)
    missing_topic: str | None = None

    async def read_refused() -> None:
        nonlocal missing_topic

        if dead_letter_topic == topic:
            return
        try:
            await scan(
                settings,
                dead_letter_topic,
                lambda _extents, _: lambda _, records, _gone: refused.read(records),
            )
        except KafkaRefusedError:
            # Where there is another cause, reading the topic itself reports it.
            missing_topic = dead_letter_topic

    def begin(extents: Mapping[int, Extent], may_be_compacted: bool) -> Take:  # noqa: FBT001 - the scanner's signature
        nonlocal verifier
        verifier = Verifier(extents, refused, may_be_compacted=may_be_compacted)
        return verifier.add

    await read_refused()
    await scan(
        settings,
        topic,
        begin,
        since_ms=since_ms,
        committed_only=isolation == "read_committed",
        on_progress=on_progress,
    )
    if verifier.is_missing_something or claims:
        # A bridge that runs may have had records refused since.
        await read_refused()
    for outbox_id, one in claims:
        verifier.compare(outbox_id, one)
    verifier.conclude()
    partitions = verifier.partitions()
    notes = [*_reading_notes(verifier, missing_topic), *_notes(verifier)]
    if not claims:
        notes.append(
            "The topic can't show what should follow an outbox's last sequence; "
            "--outbox-dir compares it with the outbox."
        )
    if unsendable := sum(len(one.unsendable) for _, one in claims):
        notes.append(
            f"{unsendable:,} records are only in the outbox: the broker refused them "
            "for the topic and for the dead letters."
        )
    return Report(
        topic=topic,
        clean=not verifier.counts,
        records=sum(one.records for one in partitions),
        isolation=isolation,
        seconds=round(time.monotonic() - began, 3),
        partitions=partitions,
        outboxes=verifier.outboxes(),
        counts={kind: verifier.counts[kind] for kind in Kind if verifier.counts[kind]},
        issues=verifier.issues(),
        notes=notes,
    )


def _reading_notes(verifier: Verifier, missing_topic: str | None) -> Iterator[str]:
    """Say what was not read or compared."""
    if hidden := sum(one.log_end - one.end for one in verifier.partitions()):
        yield (
            f"{hidden:,} offsets lie behind a transaction that was open at the start; "
            "they were not read."
        )
    if missing_topic is not None:
        yield (
            f"No dead letters were read ({missing_topic}): a record that the broker "
            "refused would look like a hole."
        )
    if not verifier.has_all_ids:
        yield "Not every ce_id could be compared with all others."
    if not verifier.has_all_outboxes:
        yield "Outboxes are left out: too many of them, or a name that no bridge has."


def _notes(verifier: Verifier) -> Iterator[str]:
    """Say what only looks odd."""
    outboxes, partitions = verifier.outboxes(), verifier.partitions()
    if unproven := sum(one.unread + one.trimmed + one.compacted for one in outboxes):
        yield (
            f"{unproven:,} sequences are before the start, or were trimmed or compacted"
            " away as far as offsets show: they are not verified."
        )
    if any(one.resent for one in outboxes):
        yield (
            "Records marked `resent` were sent again after Kafka had lost them; where "
            "it had not lost all of them, they are there twice, with the same ce_id."
        )
    writers = [one.partition for one in outboxes if one.origin != Origin.REPLAY]
    if len(writers) > len(set(writers)):
        yield "Several outboxes write here; the order between them is not verified."
    if wrong := sum(one.wrong_partition for one in partitions):
        yield (
            f"{wrong:,} records are in another partition than their key's: partitions "
            "were added, or their writer chooses otherwise. Such a key may be in two "
            "partitions, which was not verified further."
        )


def show_report(report: Report, console: Console) -> None:
    """Print issues, the table of outboxes, notes and the verdict."""
    for issue in report.issues:
        _print_issue(report.topic, issue, console)
    if report.outboxes:
        _print_outboxes(report.outboxes, console)
    for note in report.notes:
        print_line(console, (f"note: {note}", "dim"))
    rate = report.records / max(report.seconds, 0.001)
    foreign = sum(one.foreign for one in report.partitions)
    found = "; ".join(
        f"{count:,} {kind} ({_MEANINGS[kind]})" for kind, count in report.counts.items()
    )
    print_line(
        console,
        ("Clean: ", "bold green") if report.clean else ("Not clean: ", "bold red"),
        f"{found or 'no hole, no duplicate, no reordering'}. ",
        f"{report.records:,} records of {escaped(report.topic)} read in "
        f"{report.seconds:.1f} s ({rate:,.0f}/s, {report.isolation}), {foreign:,} of "
        "them by other programs.",
    )


def _print_issue(topic: str, issue: Issue, console: Console) -> None:
    first, last = issue.first_sequence, issue.last_sequence
    what = ":"
    if first is not None and last is not None:
        what = f": sequence {first}" if first == last else f": sequences {first}-{last}"
        if issue.count != last - first + 1:
            what += f", {issue.count} of them"
    what += f" of outbox {escaped(issue.outbox)}"
    if issue.kind in {Kind.HOLE, Kind.MISSING_END}:
        after = issue.after_offset
        what += ", nothing before it" if after is None else f", after offset {after}"
    if issue.ce_id is not None:
        what += f", ce_id {escaped(issue.ce_id)}"
    at = f"{escaped(topic)}-{issue.partition}@{issue.offset} "
    print_line(console, at, (issue.kind.value, "bold red"), what)


def _print_outboxes(outboxes: Sequence[OutboxReport], console: Console) -> None:
    # Most topics have none of these.
    rare = ("unread", "trimmed", "compacted", "refused", "resent", "waiting")
    shown = [name for name in rare if any(getattr(one, name) for one in outboxes)]
    numbers = ("records", "first", "last", *shown)
    columns = {"partition": "right", "outbox": "left", "origin": "left"}
    columns |= dict.fromkeys(numbers, "right") | {"end": "left"}
    rows = (
        (
            str(one.partition),
            cell(one.outbox[:_OUTBOX_CHARACTERS]),
            one.origin,
            *(one.records, one.first_sequence, one.last_sequence),
            *(getattr(one, name) or 0 for name in shown),
            one.end,
        )
        for one in outboxes[:_MAX_SHOWN]
    )
    print_table(console, columns, rows)
    if (left := len(outboxes) - _MAX_SHOWN) > 0:
        print_line(console, f"... and {left:,} more (--output json has all)")
