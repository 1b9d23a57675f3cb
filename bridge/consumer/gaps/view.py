"""
How gaps look: a table with its totals, or JSON.

Owns words, columns and colours, and that nothing from a record reaches the terminal
as a command to it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.consumer.gaps.gap import Gap, State
from bridge.consumer.gaps.overview import Overview, Totals
from bridge.consumer.texts import plain
from bridge.text import printable_json


__all__ = ["overview_as_json", "show_overview"]

_STATE_STYLES = {
    State.OPEN: "bold red",
    State.CLOSED: "yellow",
    State.SETTLED: "green",
}

# From which width on all columns are there; below it the year goes, the end is left to
# the seconds, and what was healed is one number: so a row fits 80 columns.
_ALL_FROM_COLUMNS = 140

# What a column shows of an account or a cause: with a UUID's 36 and the longest cause
# there is, a row has less than the 160 columns of a pipe, and stays one line.
_SHOWN_CHARACTERS = 40


def show_overview(topic: str, overview: Overview, console: Console) -> None:
    """Print the gaps, the newest first, and what they come to."""
    if overview.gaps:
        console.print(_table(overview, is_wide=console.width >= _ALL_FROM_COLUMNS))
    for line in _summary(topic, overview):
        console.print(line, soft_wrap=True)
    if overview.left_out:
        text = f"note: {overview.left_out:,} older gaps had no room and are left out."
        console.print(Text(text, style="dim"), soft_wrap=True)
    if overview.no_gaps:
        console.print(_strangers(overview), soft_wrap=True)


def _table(overview: Overview, *, is_wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("since (UTC)", no_wrap=True)
    if is_wide:
        table.add_column("until (UTC)", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("cause", no_wrap=True)
    table.add_column("account", overflow="fold")
    healed = ("endpoint", "webhook") if is_wide else ("healed",)
    for name in ("in flight" if is_wide else "jobs", *healed, "unknown"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for gap in overview.gaps:
        table.add_row(*_cells(gap, is_wide=is_wide))
    return table


def _cells(gap: Gap, *, is_wide: bool) -> list[Text]:
    by_endpoint, by_webhook = gap.healed_by_status_endpoint, gap.healed_by_webhook
    if is_wide:
        healed = [_count(by_endpoint), _count(by_webhook)]
    else:
        is_known = gap.state is State.SETTLED
        both = (by_endpoint or 0) + (by_webhook or 0)
        healed = [_count(both if is_known else None)]
    seconds = "-" if gap.seconds is None else f"{gap.seconds:,.1f}"
    return [
        Text(_time(gap.since) if is_wide else _short_time(gap.since)),
        *([Text(_time(gap.until))] if is_wide else []),
        Text(seconds),
        Text(plain(gap.cause, _SHOWN_CHARACTERS)),
        Text(plain(gap.client_id, _SHOWN_CHARACTERS)),
        _count(gap.jobs_in_flight),
        *healed,
        _count(gap.unknown, style="bold red" if gap.unknown else ""),
        Text(gap.state.value, style=_STATE_STYLES[gap.state]),
    ]


def _count(count: int | None, style: str = "") -> Text:
    return Text("-" if count is None else f"{count:,}", style=style)


def _time(moment: datetime | None) -> str:
    """Write a moment to the second; a gap's others are in --json."""
    return "-" if moment is None else _rfc3339(moment)[:19] + "Z"


def _short_time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%m-%d %H:%M:%S}"


def _rfc3339(moment: datetime) -> str:
    text = moment.isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _summary(topic: str, overview: Overview) -> list[Text]:
    totals = overview.totals
    count = len(overview.gaps)
    if not count:
        which = "no gaps such as those" if overview.causes else "no gaps"
        return [Text(f"{plain(topic)} holds {which}.")]
    states = [f"{n:,} {state}" for state, n in totals.states.items() if n]
    head = (
        f"{count:,} {'gap' if count == 1 else 'gaps'} on {plain(topic)}"
        f" ({', '.join(states)}), {totals.seconds:,.1f} s in all: "
    )
    causes = sorted(totals.causes.items(), key=lambda one: (-one[1][0], one[0]))
    head += ", ".join(
        f"{n:,} {plain(cause, _SHOWN_CHARACTERS)} ({seconds:,.1f} s)"
        for cause, (n, seconds) in causes
    )
    return [Text(f"{head}."), _jobs(totals, count)]


def _jobs(totals: Totals, gaps_shown: int) -> Text:
    """Say what became of jobs, and how much was lost for good."""
    text = Text(
        f"{totals.jobs_in_flight:,} jobs in flight, "
        f"{totals.healed_by_status_endpoint:,} healed by the status endpoint, "
        f"{totals.healed_by_webhook:,} by webhooks, "
    )
    if totals.unknown:
        text.append(f"{totals.unknown:,} unknown", style="bold red")
        text.append(": lost for good, unless a webhook or the endpoint still tells.")
        if gaps_shown > 1:
            text.append(" A job counts for each gap that it went through.")
    else:
        text.append("none unknown.")
    if left := totals.states[State.OPEN] + totals.states[State.CLOSED]:
        gaps = "1 gap has" if left == 1 else f"{left:,} gaps have"
        text.append(f" {gaps} not been settled yet.")
    return text


def _strangers(overview: Overview) -> Text:
    count = overview.no_gaps
    places = "; ".join(
        f"{plain(one.place)} ({plain(one.reason)})" for one in overview.named
    )
    more = f" and {count - len(overview.named):,} more" * (count > len(overview.named))
    records = "1 record is" if count == 1 else f"{count:,} records are"
    return Text(f"note: {records} no gap: {places}{more}.", style="dim")


def overview_as_json(topic: str, overview: Overview) -> bytes:
    """Write gaps and totals as one JSON object."""
    totals = overview.totals
    encoded = {
        "topic": topic,
        "gaps": [_as_object(gap) for gap in overview.gaps],
        "totals": {
            "gaps": len(overview.gaps),
            **{state.value: n for state, n in totals.states.items()},
            "seconds": round(totals.seconds, 6),
            "causes": {
                cause: {"gaps": n, "seconds": round(seconds, 6)}
                for cause, (n, seconds) in totals.causes.items()
            },
            "jobs_in_flight": totals.jobs_in_flight,
            "healed_by_status_endpoint": totals.healed_by_status_endpoint,
            "healed_by_webhook": totals.healed_by_webhook,
            "unknown": totals.unknown,
        },
        "left_out": overview.left_out,
        "no_gaps": {
            "count": overview.no_gaps,
            "first": msgspec.to_builtins(overview.named),
        },
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(encoded)))


def _as_object(gap: Gap) -> dict[str, object]:
    """Give a gap's members as its record has them, and what is made of them."""
    return {
        **msgspec.structs.asdict(gap),
        "since": None if gap.since is None else _rfc3339(gap.since),
        "until": None if gap.until is None else _rfc3339(gap.until),
        "seconds": gap.seconds,
        "state": gap.state.value,
    }
