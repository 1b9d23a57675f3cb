"""
What every request to the board goes through: who may ask, and what each answer says.

Owns the Host header's check and the headers of safety. The page reads topics that not
everybody may see, and browsers carry requests of any page they have open to this
machine: whoever doesn't ask for the board by one of its names gets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


__all__ = ["HEADERS", "Guard"]

_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")

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
        self._app = app
        # No name is none of them, however a list of names ends: so it reads here
        # whatever isn't a host's.
        self._hosts = (_LOCAL | {host.lower() for host in hosts}) - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._refusal(Headers(scope=scope)) or self._app
        await app(scope, receive, send_safely)

    def _refusal(self, headers: Headers) -> ASGIApp | None:
        if _host(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse(
                "This board isn't known by that name. Name it in board.hosts "
                "(BRIDGE_BOARD_HOSTS).\n",
                421,
            )
        # Another site's page may lead here, and have nothing sent for itself.
        if headers.get("sec-fetch-site") == "cross-site" and (
            headers.get("sec-fetch-mode") != "navigate"
        ):
            return PlainTextResponse("The board is no part of another site.\n", 403)
        return None


def _host(text: str) -> str:
    """Take the port and the brackets off; what is no host at all is known to nobody."""
    found = _HOST.fullmatch(text.lower())
    return "" if found is None else found[1] or found[2]
