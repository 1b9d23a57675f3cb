"""
The ledger of gaps for people: each gap once, their totals, and what was lost for good.

Records may be another version's, with other causes and members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta
from rich.console import Console

from bridge.consumer.job_record import unframed
from bridge.consumer.reading import OnProgress, place, read_all
from bridge.consumer.render import (
    cell,
    counted,
    escaped,
    json_object,
    print_line,
    print_table,
    rfc3339,
)
from bridge.kafka.reader import ConsumedRecord
from bridge.settings import KafkaSettings


__all__ = [
    "Choice",
    "Folded",
    "Gap",
    "InvalidGapError",
    "Overview",
    "State",
    "as_gap",
    "gaps_of",
    "overview_as_json",
    "show_overview",
]

# The bridge's own names are shorter: a hostile one must not fill the memory.
_Name = Annotated[str, Meta(min_length=1, max_length=500)]
_Moment = Annotated[datetime, Meta(tz=True)]
# Of jobs there are fewer than a double has whole numbers.
_Count = Annotated[int, Meta(ge=0, le=2**53)]

# 50 MB of them: one every quarter of an hour for three years.
_MAX_GAPS = 100_000
# So many invalid records are named.
_MAX_NAMED = 3

# From which width on all columns are shown. Below it the year and the end are left out,
# and what was healed is one number: so a row fits 80 columns.
_ALL_FROM_COLUMNS = 140

# What a column shows of an account or a cause: with a UUID's 36 and the longest cause
# there is, a row has less than the 160 columns of a pipe, and stays one line.
_SHOWN_CHARACTERS = 40


class InvalidGapError(ValueError):
    """A record's value isn't a gap; says why, without anything of the value."""


class State(StrEnum):
    """How far a gap is."""

    OPEN = "open"
    CLOSED = "closed"
    RESOLVED = "resolved"


_STATE_STYLES = {
    State.OPEN: "bold red",
    State.CLOSED: "yellow",
    State.RESOLVED: "green",
}
_ORDER = list(State)


class Gap(msgspec.Struct, frozen=True):
    """A gap as one of its records has it; None stands for what isn't known, or yet."""

    gap_id: _Name
    cause: _Name
    client_id: _Name
    since: _Moment | None
    until: _Moment | None
    jobs_in_flight: _Count | None = None
    # Known once the gap is resolved.
    healed_by_status_endpoint: _Count | None = None
    healed_by_webhook: _Count | None = None
    unknown: _Count | None = None

    @property
    def state(self) -> State:
        """How far it is."""
        if self.until is None:
            return State.OPEN
        return State.CLOSED if self.unknown is None else State.RESOLVED

    @property
    def seconds(self) -> float | None:
        """How long it was; None while that isn't known."""
        if self.since is None or self.until is None:
            return None
        # A clock may be set back.
        return max(0.0, (self.until - self.since).total_seconds())

    @property
    def moment(self) -> datetime:
        """Its place in time: its start, or its end where only that is known."""
        return self.since or self.until or datetime.min.replace(tzinfo=UTC)


def as_gap(record: ConsumedRecord) -> Gap:
    """
    Read a record of the topic of gaps.

    Raises:
        InvalidGapError: It isn't a gap.
    """
    if record.value is None:
        raise InvalidGapError("it has no value")
    try:
        gap = msgspec.json.decode(unframed(record)[1], type=Gap)
        return msgspec.structs.replace(
            gap,
            since=gap.since and gap.since.astimezone(UTC),
            until=gap.until and gap.until.astimezone(UTC),
        )
    except OverflowError as error:
        raise InvalidGapError("one of its times is out of range") from error
    except msgspec.ValidationError as error:
        raise InvalidGapError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidGapError("it isn't JSON") from error


class Choice(msgspec.Struct, frozen=True):
    """Which gaps are wanted."""

    client_id: str | None = None
    cause: str | None = None
    since: datetime | None = None  # those that were open at that moment or later
    is_open: bool = False
    has_unknown: bool = False  # those with jobs whose end isn't known

    def wants(self, gap: Gap) -> bool:
        """Return whether a gap is one of them."""
        return (
            self.client_id in {None, gap.client_id}
            and self.cause in {None, gap.cause}
            and (self.since is None or gap.until is None or gap.until >= self.since)
            and not (self.is_open and gap.state is not State.OPEN)
            and not (self.has_unknown and not gap.unknown)
        )


class Overview(msgspec.Struct, frozen=True):
    """The wanted gaps of a topic."""

    gaps: Sequence[Gap]  # each once, the newest first
    invalid: int  # how many records aren't gaps
    named: Sequence[tuple[str, str]]  # the first of those: their offsets, what is wrong
    left_out: int  # gaps that didn't fit into memory, those that came first
    causes: Sequence[str]  # all that any gap has, wanted or not

    def total(self, member: str) -> int:
        """Add up one of the gaps' counts, as far as they are known."""
        return sum(getattr(gap, member) or 0 for gap in self.gaps)

    def states(self) -> dict[State, int]:
        """Return how many gaps are in which state."""
        states = dict.fromkeys(State, 0)
        for gap in self.gaps:
            states[gap.state] += 1
        return states

    def seconds_by_cause(self) -> dict[str, tuple[int, float]]:
        """Return how many gaps each cause has, and their length as far as known."""
        causes: dict[str, tuple[int, float]] = {}
        for gap in self.gaps:
            count, seconds = causes.get(gap.cause, (0, 0.0))
            causes[gap.cause] = count + 1, seconds + (gap.seconds or 0.0)
        return causes


class Folded:
    """
    Accepts records, and keeps the one that counts of each gap.

    Args:
        max_gaps: How many gaps are kept.
    """

    def __init__(self, max_gaps: int = _MAX_GAPS) -> None:
        self._max_gaps = max_gaps
        self._gaps: dict[str, Gap] = {}
        self._invalid = 0
        self._named: list[tuple[str, str]] = []
        self._left_out = 0

    def take(self, record: ConsumedRecord) -> None:
        """Accept the next record of its partition."""
        try:
            gap = as_gap(record)
        except InvalidGapError as error:
            self._invalid += 1
            if len(self._named) < _MAX_NAMED:
                self._named.append((place(record), str(error)))
            return
        known = self._gaps.get(gap.gap_id)
        if known is None:
            if len(self._gaps) >= self._max_gaps:
                del self._gaps[next(iter(self._gaps))]
                self._left_out += 1
        # A record can come twice, and the second time behind a later one.
        elif _ORDER.index(gap.state) < _ORDER.index(known.state):
            return
        self._gaps[gap.gap_id] = gap

    def overview(self, choice: Choice) -> Overview:
        """Return what is wanted of it."""
        wanted = filter(choice.wants, self._gaps.values())
        return Overview(
            gaps=sorted(wanted, key=lambda gap: gap.moment, reverse=True),
            invalid=self._invalid,
            named=self._named,
            left_out=self._left_out,
            causes=sorted({gap.cause for gap in self._gaps.values()}),
        )


async def gaps_of(
    settings: KafkaSettings,
    topic: str,
    choice: Choice,
    *,
    on_progress: OnProgress = lambda _progress: None,
) -> Overview:
    """
    Read a topic of gaps to its present ends.

    It is always read from its beginning: an open gap may have begun long ago. Raises as
    `read_through` does.
    """
    folded = Folded()
    await read_all(settings, topic, folded.take, on_progress=on_progress)
    return folded.overview(choice)


# -- What people and programs get -----------------------------------------------------


def show_overview(topic: str, overview: Overview, console: Console) -> None:
    """Print the gaps, the newest first, and their totals."""
    if overview.gaps:
        _print_gaps(overview.gaps, console)
        _print_totals(topic, overview, console)
    else:
        which = "no such gaps" if overview.causes else "no gaps"
        print_line(console, f"{escaped(topic)} has {which}.")
    if overview.left_out:
        left = f"{overview.left_out:,} older gaps didn't fit into memory."
        print_line(console, (f"note: {left}", "dim"))
    if overview.invalid:
        named = "; ".join(f"{at} ({escaped(why)})" for at, why in overview.named)
        more = overview.invalid - len(overview.named)
        named += f" and {more:,} more" * (more > 0)
        what = counted(overview.invalid, "record isn't a gap", "records aren't gaps")
        print_line(console, (f"note: {what}: {named}.", "dim"))


def _print_gaps(gaps: Iterable[Gap], console: Console) -> None:
    is_wide = console.width >= _ALL_FROM_COLUMNS
    numbers = ["jobs", "healed", "unknown"]
    if is_wide:
        numbers = ["in flight", "endpoint", "webhook", "unknown"]
    columns = (
        {"since (UTC)": "left"}
        | ({"until (UTC)": "left"} if is_wide else {})
        | {"seconds": "right", "cause": "left", "account": "fold"}
        | dict.fromkeys(numbers, "right")
        | {"state": "left"}
    )
    print_table(console, columns, (_cells(gap, is_wide=is_wide) for gap in gaps))


def _cells(gap: Gap, *, is_wide: bool) -> Iterable[object]:
    healed: list[int | None] = [gap.healed_by_status_endpoint, gap.healed_by_webhook]
    if is_wide:
        yield from (one and rfc3339(one)[:19] + "Z" for one in (gap.since, gap.until))
    else:
        yield gap.since and f"{gap.since:%m-%d %H:%M:%S}"
        is_known = gap.state is State.RESOLVED
        healed = [sum(one or 0 for one in healed) if is_known else None]
    yield None if gap.seconds is None else f"{gap.seconds:,.1f}"
    yield cell(gap.cause, limit=_SHOWN_CHARACTERS)
    yield cell(gap.client_id, limit=_SHOWN_CHARACTERS)
    yield from (gap.jobs_in_flight, *healed)
    yield cell(gap.unknown, "bold red" if gap.unknown else "")
    yield cell(gap.state.value, _STATE_STYLES[gap.state])


def _print_totals(topic: str, overview: Overview, console: Console) -> None:
    states = overview.states()
    causes = sorted(
        overview.seconds_by_cause().items(), key=lambda one: (-one[1][0], one[0])
    )
    print_line(
        console,
        f"{counted(len(overview.gaps), 'gap')} on {escaped(topic)} (",
        ", ".join(f"{n:,} {state}" for state, n in states.items() if n),
        f"), {sum(seconds for _, (_, seconds) in causes):,.1f} s in all: ",
        ", ".join(
            f"{n:,} {escaped(cause, _SHOWN_CHARACTERS)} ({seconds:,.1f} s)"
            for cause, (n, seconds) in causes
        ),
        ".",
    )
    by_endpoint = overview.total("healed_by_status_endpoint")
    by_webhook = overview.total("healed_by_webhook")
    parts: list[str | tuple[str, str]] = [
        f"{overview.total('jobs_in_flight'):,} jobs in flight, ",
        f"{by_endpoint:,} healed by the status endpoint, {by_webhook:,} by webhooks, ",
    ]
    if unknown := overview.total("unknown"):
        parts.append((f"{unknown:,} unknown", "bold red"))
        parts.append(
            ": lost for good unless the endpoint or a webhook still reports them."
        )
        if len(overview.gaps) > 1:
            parts.append(" A job counts once for each of its gaps.")
    else:
        parts.append("none unknown.")
    if left := states[State.OPEN] + states[State.CLOSED]:
        parts.append(f" {counted(left, 'gap')} not resolved yet.")
    print_line(console, *parts)


def overview_as_json(topic: str, overview: Overview) -> bytes:
    """Write gaps and totals as one JSON object."""
    causes = overview.seconds_by_cause()
    counts = (
        "jobs_in_flight",
        "healed_by_status_endpoint",
        "healed_by_webhook",
        "unknown",
    )
    totals: dict[str, object] = {
        "gaps": len(overview.gaps),
        **{state.value: n for state, n in overview.states().items()},
        "seconds": round(sum(seconds for _, seconds in causes.values()), 6),
        "causes": {
            cause: {"gaps": n, "seconds": round(seconds, 6)}
            for cause, (n, seconds) in causes.items()
        },
        **{member: overview.total(member) for member in counts},
    }
    return json_object(
        {
            "topic": topic,
            "gaps": [_as_object(gap) for gap in overview.gaps],
            "totals": totals,
            "left_out": overview.left_out,
            "invalid": {
                "count": overview.invalid,
                "first": [{"place": at, "reason": why} for at, why in overview.named],
            },
        }
    )


def _as_object(gap: Gap) -> dict[str, object]:
    """Return a gap's members as its record has them, and what follows from them."""
    return {
        **msgspec.structs.asdict(gap),
        "since": gap.since and rfc3339(gap.since),
        "until": gap.until and rfc3339(gap.until),
        "seconds": gap.seconds,
        "state": gap.state,
    }
