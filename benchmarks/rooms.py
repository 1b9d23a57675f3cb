"""
Whose a function is: the room of the house, or the library, that its file stands in.

Owns that map, and where the stacks of a thread begin to say something.
"""

from __future__ import annotations

import re

from benchmarks.sampling import KERNEL


__all__ = ["ROOMS", "UNLOCKED", "beyond_loops", "file_of", "name_of", "room"]

UNLOCKED = {"libsqlite3": "SQLite", "libz": "zlib"}
"""Libraries that leave the interpreter's lock before they work."""

# The first that fits is it.
_FILES = {
    "bridge/pusher/": "bridge.pusher",
    "bridge/intake.py": "bridge.intake, job_status",
    "bridge/job_status/": "bridge.intake, job_status",
    "bridge/outbox/": "bridge.outbox",
    "bridge/kafka/": "bridge.kafka",
    "bridge/": "bridge: others",
    "benchmarks/": "the benchmark's notes",
    "aiokafka/": "aiokafka",
    "asyncio/": "asyncio",
    "selectors.py": "asyncio",
    "trio/": "trio",
    "outcome/": "trio",
    "trio_websocket/": "trio-websocket, wsproto",
    "wsproto/": "trio-websocket, wsproto",
}

_OTHERS = "Python and others"

ROOMS = (*dict.fromkeys(_FILES.values()), _OTHERS, *UNLOCKED.values(), KERNEL)
"""All of them, in the order in which they are shown."""

# py-spy's frames: `function (file:line)`.
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>.+?)(?::\d+)?\)$")

# What starts a task, or a thread's work. All below it is the same for every stack of
# the thread, and where the sampler lost the rest of a stack it ends here too.
_LOOPS = (
    ("run", "trio/_core/_run.py"),
    ("unrolled_run", "trio/_core/_run.py"),
    ("BaseEventLoop._run_once", "asyncio/base_events.py"),
    ("Handle._run", "asyncio/events.py"),
    ("_naming.<locals>.called", "benchmarks/bridge_program.py"),
)


def name_of(frame: str) -> str:
    """Give a frame's function; the frame itself where it is none of Python's."""
    match = _FRAME.match(frame)
    return match["name"] if match else frame


def file_of(frame: str) -> str:
    """Give a frame's file; nothing where it is none of Python's."""
    match = _FRAME.match(frame)
    return match["file"] if match else ""


def room(stack: tuple[str, ...]) -> str:
    """Tell whose the time of a stack's leaf is, with what C it calls."""
    if stack[0] in ROOMS:
        return stack[0]
    file = file_of(stack[-1])
    for begin, name in _FILES.items():
        if file.startswith(begin):
            return name
    return _OTHERS


def beyond_loops(stack: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what starts the task or the thread; a loop's own time stays."""
    for place in range(len(stack) - 1, -1, -1):
        if (name_of(stack[place]), file_of(stack[place])) in _LOOPS:
            return stack[place + 1 :] or stack[place:]
    return stack
