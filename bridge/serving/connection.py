"""
One client's bytes: HTTP/1.1 by h11, each wait for the client with its deadline.

What is asked and answered belongs to `exchange`; a connection only carries it. There is
no upgrade, neither to WebSockets nor to HTTP/2.
"""

from __future__ import annotations

from contextlib import suppress
from email.utils import formatdate
from typing import Final

import h11
import trio

from bridge.serving.limits import Limits
from bridge.serving.places import Places


__all__ = ["Connection", "GoneError", "TooManyChunksError"]

# So much may lie behind what a head may have: it is small.
_HEAD_READ_BYTES: Final = 8 * 1024
# Much, so that a busy loop takes a body in few turns; what it costs depends on chunks.
_BODY_READ_BYTES: Final = 64 * 1024

# A chunk takes some 15 us of parsing, whatever is in it: no body holds up the loop for
# more than these together. Clients that don't know a body's length send chunks of
# kilobytes, so that it is a megabyte and more.
_MAX_CHUNKS: Final = 1024

# What a client still sends after an answer is read and thrown away for a moment: an end
# with unread bytes is a reset, which may overtake the answer.
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 4 * 1024 * 1024

# Whoever is before the port may believe the one, as h11 does the other: then what it
# takes for a body would be a request here (RFC 9112 section 6.3).
_FRAMINGS: Final = {b"content-length", b"transfer-encoding"}


class GoneError(OSError):
    """The client is gone: nothing can be answered any more."""


class TooManyChunksError(Exception):
    """A body comes in crumbs: refuse it."""


class Connection:
    """
    A client that is connected.

    Args:
        stream: Its bytes.
        places: Where waits for it are counted.
        limits: What it may take.
    """

    def __init__(self, stream: trio.abc.Stream, places: Places, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self._stream = stream
        self._places = places
        self._chunks = 0
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=limits.max_head_bytes
        )

    @property
    def is_kept(self) -> bool:
        """Whether request and answer are through, and another request may follow."""
        return self._http.our_state is self._http.their_state is h11.DONE

    @property
    def has_answered(self) -> bool:
        """Whether the answer is through."""
        return self._http.our_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}

    async def next_request(self) -> h11.Request | None:
        """
        Wait for the head of the next request.

        Returns:
            The head; None if the client has ended the connection.

        Raises:
            h11.RemoteProtocolError: It is no HTTP, larger than it may be, or says in
                two ways where its body ends.
            TooLateError: It took too long.
            GoneError: The connection broke.
        """
        if self.requests:
            self._http.start_next_cycle()
        self._chunks = 0
        since = trio.current_time()
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self.requests += 1
                if {name for name, _ in event.headers} >= _FRAMINGS:
                    raise h11.RemoteProtocolError("both lengths")
                return event
            if event is not h11.NEED_DATA:
                return None
            await self._read(_HEAD_READ_BYTES, self.limits.head_seconds, since)

    async def body(self, since: float) -> tuple[bytes, bool]:
        """
        Wait for more of the request's body.

        Args:
            since: When the body's time began.

        Returns:
            What there is of it, and whether there is more.

        Raises:
            h11.RemoteProtocolError: It isn't what its head says.
            TooManyChunksError: It comes in crumbs.
            TooLateError: It took too long.
            GoneError: The connection broke.
        """
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self.write(self._http.send(go_on), since)
        while True:
            found, has_ended = self._parsed()
            if found or has_ended:
                return found, not has_ended
            await self._read(_BODY_READ_BYTES, self.limits.body_seconds, since)

    def skip_body(self) -> None:
        """Throw away what of the body has been read already, as nobody asks for it."""
        if self._http.their_state is h11.SEND_BODY:
            # What is wrong with it is no longer worth an answer of its own.
            with suppress(h11.RemoteProtocolError, TooManyChunksError):
                self._parsed()

    def head_of_answer(
        self, status: int, headers: list[tuple[bytes, bytes]], *, is_last: bool
    ) -> bytes:
        """Make an answer's head, and say whether the connection is kept after it."""
        headers = [*headers, (b"date", formatdate(usegmt=True).encode())]
        is_last = is_last or self.requests >= self.limits.max_requests
        if is_last or self._http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        return self._http.send(h11.Response(status_code=status, headers=headers)) or b""

    def piece_of_answer(self, data: bytes, *, has_more: bool) -> bytes:
        """Make a piece of an answer's body."""
        made = (self._http.send(h11.Data(data=data)) or b"") if data else b""
        if has_more:
            return made
        return made + (self._http.send(h11.EndOfMessage()) or b"")

    async def write(self, data: bytes | None, since: float) -> None:
        """
        Send bytes.

        Args:
            data: The bytes.
            since: When the answer's time began.

        Raises:
            TooLateError: The client doesn't take them, or too slowly.
            GoneError: The connection broke.
        """
        if not data:
            return
        with self._places.waiting(self.limits.answer_seconds, since=since):
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise GoneError from error

    async def refuse(self, status: int) -> None:
        """
        Answer with a bare status, where no answer has begun; the connection ends.

        Raises:
            TooLateError: The client doesn't take it.
            GoneError: The connection broke.
        """
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        length = [(b"content-length", b"0")]
        head = self.head_of_answer(status, length, is_last=True)
        end = self.piece_of_answer(b"", has_more=False)
        await self.write(head + end, trio.current_time())

    async def end(self) -> None:
        """
        End the connection so that the client can still read the answer.

        Raises:
            TooLateError: It goes on sending.
            GoneError: The connection broke.
        """
        left, since = _LINGER_BYTES, trio.current_time()
        with self._places.waiting(_LINGER_SECONDS, since=since):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while left > 0:
                    data = await self._stream.receive_some(_BODY_READ_BYTES)
                    if not data:
                        break
                    left -= len(data)
                await self._stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise GoneError from error

    def _parsed(self) -> tuple[bytes, bool]:
        """Give what of the body has been read, and whether that is its end."""
        pieces: list[bytes] = []
        while True:
            event = self._http.next_event()
            if not isinstance(event, h11.Data):
                return b"".join(pieces), isinstance(event, h11.EndOfMessage)
            pieces.append(event.data)
            self._chunks += event.chunk_start
            if self._chunks > _MAX_CHUNKS:
                raise TooManyChunksError

    async def _read(self, max_bytes: int, seconds: float, since: float) -> None:
        with self._places.waiting(seconds, since=since):
            try:
                data = await self._stream.receive_some(max_bytes)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise GoneError from error
        self._http.receive_data(bytes(data))
