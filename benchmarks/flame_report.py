"""
A profile as a text for people: by room of the house, by library, by function.

Owns the tables. What a flame graph shows at a glance stands here in figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.machine import heading
from benchmarks.profiles import THREADS, Profile
from benchmarks.rooms import ROOMS, file_of, name_of, room
from benchmarks.tables import table


__all__ = ["floors", "for_documents", "markdown", "title"]

_Stack = tuple[str, ...]

# In the whole report, of each thread; and in the part that documents show, of all.
_FUNCTIONS = 60
_MOST_FUNCTIONS = 15

# What is below this part of all has no row.
_LEAST_SHARE = 0.003

_TRUST = (
    "What it stands on: the system's clock, without samplers and beside them, and their"
    " samples: py-spy counts who holds the interpreter's lock, perf who runs."
)


def title(profile: Profile) -> str:
    """Say what was measured, in one line."""
    rate = "a flood" if profile.rate is None else f"{profile.rate:,.0f} events/s"
    return (
        f"Where the CPU goes: {rate}, {profile.event_bytes:,} bytes an event,"
        f" {_us(profile, profile.us)} us each"
    )


def markdown(profile: Profile) -> str:
    """Write all of it."""
    parts = [
        heading(title(profile), profile.machine),
        *_by_room(profile),
        *_by_library(profile),
        *floors(profile),
        *_trust(profile),
        *(part for thread in THREADS for part in _of_thread(profile, thread)),
    ]
    return "\n\n".join(parts) + "\n"


def for_documents(profile: Profile) -> str:
    """Write what documents show of it."""
    day = profile.moment.partition("T")[0]
    where = (
        f"{profile.machine.cores} cores, load {profile.load_average:.1f},"
        f" {profile.machine.python}, revision {profile.machine.revision}, {day}."
    )
    parts = [
        where,
        *_by_room(profile),
        *_by_library(profile),
        *_by_function(profile),
        *_trust(profile),
    ]
    return "\n\n".join(parts)


def _by_room(profile: Profile) -> list[str]:
    """Write what each room takes in each thread."""
    sums = {thread: _summed(stacks, room) for thread, stacks in profile.stacks.items()}
    present = [name for name in ROOMS if any(name in found for found in sums.values())]
    return [
        "CPU us an event by room: its functions' own time, with the C that they call.",
        _across_threads(profile, "room", sums, present),
    ]


def _by_library(profile: Profile) -> list[str]:
    """Write what each library takes in each thread; nothing without perf."""
    if not profile.processor:
        return []
    sums = profile.libraries
    names = {name for found in sums.values() for name in found}
    total = {
        name: sum(sums[thread].get(name, 0.0) for thread in sums) for name in names
    }
    ordered = sorted(names, key=lambda name: (-total[name], name))
    return [
        "The same by library, as perf sees it:",
        _across_threads(profile, "library", sums, ordered),
    ]


def _by_function(profile: Profile) -> list[str]:
    """Write the functions that take most by themselves, of all threads."""
    return [
        f"The {_MOST_FUNCTIONS} functions that take most by themselves:",
        "\n".join(_rows(profile, _largest(profile, list(THREADS), _MOST_FUNCTIONS))),
    ]


def floors(profile: Profile) -> list[str]:
    """
    Write what the steps of an event take at the least.

    Returns:
        Parts of a text; none where it wasn't measured.
    """
    if not profile.floors:
        return []
    rows = [[step, f"{us:.2f}"] for step, us in profile.floors.items()]
    return [
        "What such an event needs at the least, each step by itself in one thread:",
        "\n".join(table(["step", "CPU us"], rows)),
    ]


def _trust(profile: Profile) -> list[str]:
    """Say on how many samples it stands, and how they agree with the clock."""
    locked = {name: sum(profile.locked.get(name, {}).values()) for name in THREADS}
    running = {name: sum(profile.processor.get(name, {}).values()) for name in THREADS}
    rows = [
        [
            called,
            _us(profile, profile.cpu_us.get(name, 0.0)),
            _us(profile, profile.watched_us.get(name, 0.0)),
            _part(profile.watched_us, name),
            _part(running, name),
            f"{running[name]:,}",
            _part(locked, name),
            f"{locked[name]:,}",
        ]
        for name, called in THREADS.items()
    ]
    head = ["thread", "us an event", "us while sampled", "part of the CPU"]
    head += ["part of perf's samples", "samples", "part of py-spy's", "samples"]
    return [
        _TRUST,
        "\n".join(table(head, rows)),
    ]


def _of_thread(profile: Profile, thread: str) -> list[str]:
    return [
        f"## {THREADS[thread]}: functions by their own time",
        "\n".join(_rows(profile, _largest(profile, [thread], _FUNCTIONS))),
    ]


def _across_threads(
    profile: Profile,
    what: str,
    sums: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
) -> str:
    rows = []
    for name in names:
        us = [sums[thread].get(name, 0.0) for thread in THREADS]
        if sum(us) >= profile.us * _LEAST_SHARE:
            rows.append([name, *_cells(profile, us)])
    rows.append(
        ["all", *_cells(profile, [sum(sums[name].values()) for name in THREADS])]
    )
    head = [what, *THREADS.values(), "all", "share"]
    return "\n".join(table(head, rows))


def _cells(profile: Profile, us: Sequence[float]) -> list[str]:
    share = f"{sum(us) / profile.us:.1%}" if profile.us else ""
    return [*(_us(profile, one) for one in us), _us(profile, sum(us)), share]


def _summed(
    stacks: Mapping[_Stack, float], key: Callable[[_Stack], str]
) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for stack, us in stacks.items():
        sums[key(stack)] += us  # type: ignore[assignment] # a Counter of floats
    return dict(sums)


@dataclass
class _Function:
    """What a function takes: by itself, and with all that it calls."""

    own: float = 0.0
    whole: float = 0.0


# A thread, a function and its file.
_Place = tuple[str, str, str]


def _largest(
    profile: Profile, threads: Sequence[str], most: int
) -> list[tuple[_Place, _Function]]:
    found: defaultdict[_Place, _Function] = defaultdict(_Function)
    for thread in threads:
        for stack, us in profile.stacks[thread].items():
            places = [_place(thread, stack, frame) for frame in stack]
            found[places[-1]].own += us
            for place in set(places):  # once where it calls itself
                found[place].whole += us
    ordered = sorted(found.items(), key=lambda item: (-item[1].own, item[0]))
    return ordered[:most]


def _place(thread: str, stack: _Stack, frame: str) -> _Place:
    return THREADS[thread], name_of(frame), file_of(frame) or room(stack)


def _rows(profile: Profile, largest: Sequence[tuple[_Place, _Function]]) -> list[str]:
    rows = [
        [
            f"{function.own:.3g}",
            f"{function.own / profile.us:.1%}",
            f"{function.whole:.3g}",
            f"`{name}`",
            file,
            thread,
        ]
        for (thread, name, file), function in largest
    ]
    head = ["us an event", "of all", "with what it calls", "function", "file", "thread"]
    return table(head, rows)


def _us(profile: Profile, us: float) -> str:
    return f"{us:,.0f}" if profile.us > 100 else f"{us:.2f}"


def _part(values: Mapping[str, float], name: str) -> str:
    whole = sum(values.get(thread, 0.0) for thread in THREADS)
    return f"{values.get(name, 0.0) / whole:.0%}" if whole else ""
