"""
File descriptors: each connection takes one, and the rest of the bridge needs its own.

A port that took the last one would keep the bridge from its brokers and its disk.
"""

from __future__ import annotations

import resource
from typing import Final

import structlog


__all__ = ["places_for"]

_log = structlog.get_logger("bridge.serving")

# Accounts' sockets, brokers, files, and the other port.
_OTHERS: Final = 512


def places_for(max_connections: int, setting: str) -> int:
    """
    Make sure that a port's connections leave enough descriptors to everybody else.

    The process's limit is raised as far as it is allowed: 1024, from where most systems
    start, is made for programs that can't count further.

    Args:
        max_connections: How many connections there may be.
        setting: The setting of the port, for the log.

    Returns:
        How many there may really be, at least one.
    """
    needed = max_connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return max_connections
    places = max(1, allowed - _OTHERS)
    _log.warning(
        "port.few_descriptors",
        setting=setting,
        max_connections=max_connections,
        allowed=places,
        open_files=allowed,
    )
    return places
