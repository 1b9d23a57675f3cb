"""
The outbox directory: whether the bridge can live in it, and for how long.

It is looked at as it is: a bridge that runs with it goes on, and nothing is made.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from bridge.doctor.branch import Branch, Found
from bridge.doctor.remedies import ProblemError
from bridge.errors import ExitCode, OutboxDamagedError
from bridge.outbox.directory import DirectoryState, look_at
from bridge.outbox.quota import reserve_bytes
from bridge.outbox.survey import SurveyedOutbox, survey
from bridge.settings import Settings


__all__ = ["outbox_branch", "walk_outbox"]

_DIR: Final = "outbox.dir (BRIDGE_OUTBOX_DIR, --outbox-dir)"

# An outbox of 1 GB is read within 2 s.
_READ_SECONDS: Final = 3.0

# File systems that a restart of the machine empties.
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


def outbox_branch(settings: Settings, end: float) -> Branch:
    """Give the branch of the directory."""
    silence = dict.fromkeys(
        ("outbox.directory", "outbox.file", "outbox.space"),
        ProblemError("the disk doesn't answer", f"See to the disk of {_DIR}"),
    )
    steps = ["outbox.directory", "outbox.file", "outbox.space"]
    return Branch(str(settings.outbox.dir), steps, end, silence)


async def walk_outbox(branch: Branch, settings: Settings) -> str | None:
    """Look at the directory; give the id of the outbox that is there, if one is."""
    directory = settings.outbox.dir
    surveyed = None
    with branch:
        with branch.step("outbox.directory") as found:
            state: DirectoryState = await trio.to_thread.run_sync(
                look_at, directory, abandon_on_cancel=True
            )
            _tell_directory(state, found)
        with branch.step("outbox.file", _READ_SECONDS + 1) as found:
            try:
                surveyed = await trio.to_thread.run_sync(
                    partial(survey, directory, _READ_SECONDS, is_held=state.is_held),
                    abandon_on_cancel=True,
                )
            except OutboxDamagedError as error:
                raise ProblemError(
                    str(error),
                    "Copy the directory away first; the bridge's next start sets the"
                    " file aside, brings what can be read of it into a new one and"
                    " writes a gap (outbox_damaged): see docs/durability.md",
                ) from error
            _tell_file(surveyed, found)
        with branch.step("outbox.space") as found:
            used = 0 if surveyed is None else surveyed.size_bytes
            _tell_space(state, used, settings.outbox.max_bytes, found)
    return None if surveyed is None else surveyed.id


def _tell_directory(state: DirectoryState, found: Found) -> None:
    on = "" if state.file_system is None else f", on {state.file_system}"
    if state.is_held:
        who = "a process" if state.holder is None else f"process {state.holder}"
        found.detail = (
            f"in use by {who}, as it is while a bridge runs; a second one could not"
            f" start with it{on}"
        )
    elif state.exists:
        found.detail = f"can be written{on}"
    else:
        found.detail = f"not there yet; the bridge can make it{on}"
    if state.file_system in _IN_MEMORY:
        found.warn(
            f"lies in memory ({state.file_system}): what waits there for Kafka is lost"
            " when the machine or the pod goes",
            f"Set {_DIR} to a disk that stays",
        )


def _tell_file(surveyed: SurveyedOutbox | None, found: Found) -> None:
    if surveyed is None:
        found.detail = "there is none yet"
        return
    lanes = surveyed.partitions
    waiting = sum(lane.waiting for lane in lanes)
    quarantined = sum(len(lane.unsendable) for lane in lanes)
    whole = "whole" if surveyed.is_read else "readable"
    found.detail = f"{whole}; {waiting:,} rows wait for Kafka"
    if quarantined:
        found.warn(
            f"{quarantined:,} rows can't be sent: neither their topic nor the dead"
            " letters took them",
            "See docs/durability.md for what to do about them",
        )


def _tell_space(state: DirectoryState, used: int, most: int, found: Found) -> None:
    free, reserve = state.free_bytes, reserve_bytes(state.total_bytes)
    if free <= reserve:
        raise ProblemError(
            f"{_size(free)} are free, and {_size(reserve)} are kept for"
            " acknowledgements: no event would be taken",
            f"Make room on the disk, or set {_DIR} to another one",
            ExitCode.USAGE,
        )
    found.detail = f"{_size(free)} free, outbox.max_bytes is {_size(most)}"
    if used + free < most:
        found.detail = ""
        found.warn(
            f"{_size(free)} are free, less than the {_size(most)} of outbox.max_bytes:"
            " an outage of Kafka is borne for less long than that says",
            "Give it a larger disk, or lower outbox.max_bytes"
            " (BRIDGE_OUTBOX_MAX_BYTES) to what there is",
        )


def _size(count: int) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
