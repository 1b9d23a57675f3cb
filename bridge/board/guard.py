"""
What every request to the board goes through: who may ask, and what each answer says.

Owns the security headers; `HostCheck` refuses requests for a name that isn't its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.http.hosts import HostCheck


__all__ = ["HEADERS", "Guard"]

# Whatever text of a record got into the page: nothing runs that isn't one of its files.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """
    An application that lets through what is meant for another.

    Args:
        app: The other.
        hosts: Names and addresses by which it may be asked, beside this machine's own.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = HostCheck(app, hosts, hint="board.hosts (BRIDGE_BOARD_HOSTS)")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely)
