"""
A dryAPI on a laptop: Pusher endpoint, API and simulated jobs on one port.

For developers of programs that consume dryAPI's events. It is by itself:
nothing of the running bridge imports it, and it imports nothing of the bridge
but errors and the HTTP server. Pillow comes with the extra `bridge[sandbox]`.
"""

from __future__ import annotations

from bridge.sandbox.config import SandboxConfig, SandboxError, Statistics
from bridge.sandbox.sandbox import Sandbox


__all__ = ["Sandbox", "SandboxConfig", "SandboxError", "Statistics"]
