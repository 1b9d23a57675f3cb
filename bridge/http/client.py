"""
HTTP/1.1 client of dryAPI, for channel authorization and the status endpoint.

No redirects, no proxies, no compression, one request per connection. Each response is
limited: its head with all informational responses before it, its body, and the number
of the body's chunks. No error repeats any part of a body: it may hold a signature.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlsplit

import h11
import msgspec
import trio

from bridge import __version__
from bridge.errors import ConfigError, ConnectError
from bridge.http.streams import open_stream
from bridge.http.tls import client_tls
from bridge.settings import Secret


__all__ = [
    "ApiClient",
    "ApiError",
    "Response",
    "TokenError",
    "date_of",
    "retry_after_seconds",
]

# A response's head and all informational (1xx) ones before it. Real ones have some
# hundred bytes; 64 KiB of empty 1xx responses cost about a tenth of a second.
_MAX_HEAD_BYTES: Final = 64 * 1024

# Small, so that other tasks run while a hostile response is parsed.
_READ_BYTES: Final = 4096

# On average. Parsing a chunk takes some 10 us however small it is.
_MIN_CHUNK_BYTES: Final = 256

_REDIRECTS: Final = {301, 302, 303, 307, 308}


class ApiError(Exception):
    """
    There is no response: `str()` says whose and why, without the address's password.

    Attributes:
        reason: Why.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"can't ask {place}: {reason}")
        self.reason = reason


class TokenError(ApiError):
    """The token can't be sent."""


class Response(msgspec.Struct, frozen=True):
    """
    A response.

    Attributes:
        place: The endpoint's address for messages: without user and password.
        status: Its HTTP status.
        headers: By names in lower case.
        body: Its body as it was sent; None if it is too large, or in too many chunks.
    """

    place: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def is_redirect(self) -> bool:
        """Whether it names another address."""
        return self.status in _REDIRECTS and "location" in self.headers

    @property
    def content_type(self) -> str:
        """The content type as messages name it."""
        kind = self.headers.get("content-type", "no content type")[:80]
        return "".join(c for c in kind if c.isprintable())


class ApiClient:
    """
    Requests to dryAPI.

    Args:
        api_url: dryAPI's base URL.
        token: The API token, read again for each request; None for requests without.
        timeout_seconds: The longest time of one request.
        tls: Returns the TLS context for a request; the system's certificates if None.

    Raises:
        ConfigError: `api_url` isn't an HTTP address.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret | None,
        *,
        timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        wrong = "api_url (BRIDGE_API_URL) must be an http:// or https:// URL"
        try:
            self._url = urlsplit(api_url.rstrip("/"))
            _ = self._url.port
            # A label may be empty or too long.
            self._host = self._url.netloc.rpartition("@")[2].encode("idna").decode()
        except ValueError as error:
            raise ConfigError(wrong) from error
        if self._url.scheme not in {"http", "https"} or not self._url.hostname:
            raise ConfigError(wrong)
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._tls = tls or client_tls(None).current

    async def request(
        self, path: str, *, max_bytes: int, content: object = None
    ) -> Response:
        """
        GET from an endpoint, or POST a JSON content to it.

        If the token is refused and was replaced in the meantime, it is sent again.

        Args:
            path: The endpoint's path below the base URL.
            max_bytes: The largest body of its response.
            content: What is posted.

        Raises:
            ApiError: The token doesn't fit a header, or there is no response in time.
        """
        if self._token is None:
            return await self._request(path, None, content, max_bytes)
        token = self._token.reveal()
        response = await self._request(path, token, content, max_bytes)
        renewed = self._token.reveal()
        if response.status == 401 and renewed != token:
            response = await self._request(path, renewed, content, max_bytes)
        return response

    async def _request(
        self, path: str, token: str | None, content: object, max_bytes: int
    ) -> Response:
        place = f"{self._url.scheme}://{self._host}{self._url.path}/{path}"
        headers = {
            "Host": self._host,
            "Connection": "close",
            # Without it Laravel answers with a redirect to a login page.
            "Accept": "application/json",
            # A compressed body could be far larger than what is counted.
            "Accept-Encoding": "identity",
            "User-Agent": f"dryapi-kafka-bridge/{__version__}",
        }
        if token is not None:
            # An error of the library would repeat the token.
            if not (token.isascii() and token.isprintable() and token == token.strip()):
                raise TokenError(
                    place,
                    "the API token (BRIDGE_API_TOKEN, or the account's api_token_file)"
                    " has characters that no HTTP header can carry",
                )
            headers["Authorization"] = f"Bearer {token}"
        body = b"" if content is None else msgspec.json.encode(content)
        if content is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(body))
        request = h11.Request(
            method="GET" if content is None else "POST",
            target=quote(f"{self._url.path}/{path}", safe="/%:@!$&'()*+,;=~"),
            headers=list(headers.items()),
        )
        try:
            with trio.fail_after(self._timeout_seconds):
                events = (request, h11.Data(data=body), h11.EndOfMessage())
                head, received = await self._exchange(events, max_bytes)
        except trio.TooSlowError as error:
            reason = f"no answer within {self._timeout_seconds:g} s"
            raise ApiError(place, reason) from error
        except ConnectError as error:
            raise ApiError(place, str(error)) from error
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            reason = str(error) or "it closed the connection"
            raise ApiError(place, reason) from error
        names: dict[str, str] = {}
        for raw_name, value in head.headers:
            name, text = raw_name.decode(), value.decode("latin-1")
            names[name] = f"{names[name]}, {text}" if name in names else text
        return Response(place, head.status_code, names, received)

    async def _exchange(
        self, request: Iterable[h11.Event], max_bytes: int
    ) -> tuple[h11.Response, bytes | None]:
        """Send a request, and receive the response's head and body."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        head: h11.Response | None = None
        body, chunks, left = bytearray(), 0, _MAX_HEAD_BYTES
        async with await open_stream(self._url, self._tls()) as stream:
            await stream.send_all(b"".join(http.send(part) or b"" for part in request))
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await stream.receive_some(_READ_BYTES)
                    http.receive_data(bytes(data))
                    left -= len(data)
                    if head is None and not data:
                        raise h11.RemoteProtocolError("it closed the connection")
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    chunks += 1
                    if len(body) > max_bytes or chunks > max_bytes // _MIN_CHUNK_BYTES:
                        break
                if head is None and left < 0:
                    raise h11.RemoteProtocolError(
                        f"the server sent {_MAX_HEAD_BYTES} bytes of headers or"
                        " informational (1xx) responses and no response"
                    )
        assert head is not None, "h11 gives a body and its end after the head"
        is_whole = isinstance(event, h11.EndOfMessage)
        return head, bytes(body) if is_whole else None


# -- Times in header fields ----------------------------------------------------


def date_of(text: str) -> datetime | None:
    """Parse an HTTP date; None if it isn't one."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # The latter for a year or an offset of twenty digits.
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def retry_after_seconds(value: str, asked: datetime) -> float | None:
    """
    Parse `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.

    Args:
        value: The field's value.
        asked: When the response was received; a date is relative to it.

    Returns:
        The seconds, never below zero; None if the value isn't valid.
    """
    if value.isascii() and value.isdigit():
        # Ten digits are 300 years; more of them make float() slow.
        return float(value[:10])
    until = date_of(value)
    return None if until is None else max(0.0, (until - asked).total_seconds())
