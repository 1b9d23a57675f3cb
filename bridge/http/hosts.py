"""
Host and origin checks for ports that answer with content.

A browser sends requests of any open page to this machine. With DNS rebinding, another
site could read the responses; without it, it could send commands. This check accepts
neither's host or origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


__all__ = ["HostCheck", "names_of"]

_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})

# The internet's DNS has none of these: a foreign site can't have such a name.
_PRIVATE_SUFFIXES: Final = (".internal", ".local", ".localhost", ".svc")

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")


class HostCheck:
    """
    An ASGI application that forwards requests with a known `Host` to another.

    Args:
        app: The other application.
        hosts: Accepted names and addresses, beside this machine's own.
        hint: Where more names are set, for the refusal.
        accepts_private: Whether any address is accepted, and any name that the
            internet's DNS can't have: probes and scrapers use these.
        own: What the paths begin with that other sites' pages may not use.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] = (),
        *,
        hint: str,
        accepts_private: bool = False,
        own: tuple[str, ...] = ("/",),
    ) -> None:
        self._app = app
        # Empty is what a header reads as that names no host.
        self._hosts = (_LOCAL | {host.lower() for host in hosts}) - {""}
        self._hint = hint
        self._accepts_private = accepts_private
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or refuse it."""
        app = self._refusal(scope, Headers(scope=scope)) or self._app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        given = headers.get("host")
        found = _HOST.fullmatch((given or "").lower())
        host = "" if found is None else found[1] or found[2]
        # Load balancers check by HTTP/1.0 without one; browsers always send one.
        is_private = given is None or _private(host)
        if host not in self._hosts and not (self._accepts_private and is_private):
            return PlainTextResponse(
                f"This server isn't known by that name. Add it to {self._hint}.\n", 421
            )
        # Another site's page may link here, and send nothing else.
        is_link = scope["method"] in {"GET", "HEAD"} and (
            headers.get("sec-fetch-mode") == "navigate"
        )
        is_own = scope["path"].startswith(self._own)
        if headers.get("sec-fetch-site") == "cross-site" and is_own and not is_link:
            return PlainTextResponse("Other sites' pages can't use this server.\n", 403)
        return None


def _private(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_PRIVATE_SUFFIXES))
    return True


def names_of(hosts: str | None) -> list[str]:
    """Split a setting's names, with commas between; IPv6 addresses lose brackets."""
    names = [] if hosts is None else hosts.split(",")
    return [name.strip().removeprefix("[").removesuffix("]") for name in names]
