"""
A dryAPI on a laptop: Pusher endpoint, API and simulated jobs on one port.

For developers of programs that consume dryAPI's events. The running bridge doesn't
import it. It imports only errors, settings' addresses and the HTTP server. The extra
`bridge[sandbox]` installs Pillow.
"""

from __future__ import annotations

from bridge.sandbox.config import SandboxConfig, SandboxError, Statistics
from bridge.sandbox.sandbox import Sandbox


__all__ = ["Sandbox", "SandboxConfig", "SandboxError", "Statistics"]
