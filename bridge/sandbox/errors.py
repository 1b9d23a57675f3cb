"""
What keeps a sandbox from running.

The base and the settings' error are the bridge's, in `bridge.errors`.
"""

from __future__ import annotations

from bridge.errors import BridgeError


__all__ = ["SandboxError", "TooManyJobsError"]


class SandboxError(BridgeError):
    """The sandbox can't run: print the message and exit."""


class TooManyJobsError(BridgeError):
    """Too many requested jobs run at once: answer 429."""
