"""
One request and its answer, as ASGI has them.

HTTP over a connection is the whole of it: no lifespan, no WebSockets, no pushes. An
application that waits for the client to go is told when the exchange is over.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import unquote

import h11
import trio
from starlette.types import Message, Scope

from bridge.serving.connection import Connection, GoneError, TooManyChunksError
from bridge.serving.grace import Grace
from bridge.serving.places import TooLateError


__all__ = ["Ends", "Exchange"]

# Those answers have no end: each piece has its own time, not all of them together.
_LASTING = b"text/event-stream"

# Those answers have no body, whatever the application gives.
_BODILESS = {204, 304}

# The client's address and the port's own, and whether TLS ends here.
Ends = tuple[tuple[str, int], tuple[str, int], bool]


class Exchange:
    """
    What the application is given for one request.

    Args:
        connection: Whose request it is.
        request: Its head.
        ends: The connection's ends.
        grace: Knows whether another request is still wanted.
    """

    def __init__(
        self, connection: Connection, request: h11.Request, ends: Ends, grace: Grace
    ) -> None:
        self._connection = connection
        self._request = request
        self._ends = ends
        self._grace = grace
        self._body_since = trio.current_time()
        self._answer_since: float | None = None
        self._lasts = False
        self._has_body = True
        self._is_bodiless = request.method == b"HEAD"
        # An answer's head goes out with the first piece of its body.
        self._head = b""
        self._over = trio.Event()
        # The status to refuse it with, where the client is there to read that.
        self.refusal: int | None = None
        self.is_lost = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended: answered, or lost."""
        return self._over.is_set()

    def scope(self) -> Scope:
        """Make ASGI's description of the request."""
        request = self._request
        path, _, query = request.target.partition(b"?")
        client, server, is_tls = self._ends
        return {
            "type": "http",
            # Sending to a client that has gone raises an OSError.
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode().upper(),
            "scheme": "https" if is_tls else "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": client,
            "server": server,
        }

    async def receive(self) -> Message:
        """Give the application more of the body, or tell it that it is over."""
        if self._has_body and not self.is_over:
            try:
                data, self._has_body = await self._connection.body(self._body_since)
            except h11.RemoteProtocolError as error:
                self._lose(error.error_status_hint)
            except TooManyChunksError:
                self._lose(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            except TooLateError:
                self._lose(HTTPStatus.REQUEST_TIMEOUT)
            except GoneError:
                self._lose()
            else:
                more = self._has_body
                return {"type": "http.request", "body": data, "more_body": more}
        # Ends with the answer, or with the grace at the end of serving.
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """
        Take the application's answer, piece by piece.

        Raises:
            GoneError: The client isn't there to take it.
        """
        if self.is_over:
            raise GoneError
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        if message["type"] != "http.response.body":
            raise ValueError(message["type"])
        has_more = message.get("more_body", False)
        data = b"" if self._is_bodiless else bytes(message.get("body", b""))
        made = self._connection.piece_of_answer(data, has_more=has_more)
        made, self._head = self._head + made, b""
        since = self._answer_since
        if since is None or self._lasts:
            since = trio.current_time()
        try:
            await self._connection.write(made, since)
        except (GoneError, TooLateError) as error:
            self._lose()
            raise GoneError from error
        if not has_more:
            self._over.set()

    def _begin(self, message: Message) -> None:
        self._connection.skip_body()
        self._has_body = False
        self._is_bodiless |= message["status"] in _BODILESS
        self._answer_since = trio.current_time()
        headers = list(message.get("headers", []))
        self._lasts = any(
            name.lower() == b"content-type" and value.startswith(_LASTING)
            for name, value in headers
        )
        self._head = self._connection.head_of_answer(
            message["status"],
            headers,
            is_last=self._grace.has_begun,
        )

    def _lose(self, refusal: int | None = None) -> None:
        self.is_lost, self.refusal = True, refusal
        self._over.set()
