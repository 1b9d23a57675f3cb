"""
Ports of the bridge's own: health, and webhooks.

`serve` is the room's door. What is answered belongs to the application that it is
given; here are addresses, sockets, TLS, and what a client may take.
"""

from bridge.serving.limits import Limits
from bridge.serving.port import serve
from bridge.serving.tls import Tls


__all__ = ["Limits", "Tls", "serve"]
