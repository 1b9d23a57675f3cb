"""
HTTP/1.1 client of dryAPI: channel authorization, and requests for the status endpoint.

No redirects, no proxies, no compression. Each response is limited: its head with all
informational responses before it, its body, and the number of the body's chunks. No
error repeats any part of a body: it may hold a signature.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import quote, urlsplit

import h11
import msgspec
import trio

from bridge import __version__
from bridge.errors import AuthorizationError, ConfigError, ConnectError
from bridge.http.streams import open_stream
from bridge.http.tls import client_tls
from bridge.settings import Secret


__all__ = [
    "ApiClient",
    "ApiError",
    "Authorizer",
    "Request",
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

# An idle connection is reused within this time: servers close theirs later.
_IDLE_SECONDS: Final = 5.0

_REDIRECTS: Final = {301, 302, 303, 307, 308}


class ApiError(Exception):
    """There is no response: `str()` says why, without the address's password."""


class TokenError(ApiError):
    """The token can't be sent."""


class Request(msgspec.Struct, frozen=True):
    """A request to one of dryAPI's endpoints, with all headers but `Host`."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    max_bytes: int


class Response(msgspec.Struct, frozen=True):
    """
    A response.

    Attributes:
        status: Its HTTP status.
        headers: By names in lower case.
        body: Its body as it was sent; None if it is too large, or in too many chunks.
    """

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


Transport: TypeAlias = Callable[[Request], Awaitable[Response]]
"""Sends a request and receives the response; tests replace it."""


class ApiClient:
    """
    Requests to dryAPI with a bearer token.

    Within `async with` a connection is kept for the next request; otherwise each
    request opens its own.

    Args:
        api_url: dryAPI's base URL.
        token: The API token, read again for each request.
        timeout_seconds: The longest time of one request.
        tls: Returns the TLS context for a request; the system's certificates if None.
        transport: Replaces the network, for tests.

    Raises:
        ConfigError: `api_url` isn't an HTTP address.
    """

    def __init__(
        self,
        api_url: str,
        token: Secret,
        *,
        timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        transport: Transport | None = None,
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
        self.token = token
        self.timeout_seconds = timeout_seconds
        self._tls = tls or client_tls(None).current
        self._transport = transport or self._exchange
        self._kept: _Connection | None = None
        self._keeps = False

    async def __aenter__(self) -> Self:
        self._keeps = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keeps = False
        if self._kept is not None:
            await trio.aclose_forcefully(self._kept.stream)

    def place(self, path: str) -> str:
        """Give an endpoint's address for messages: without user and password."""
        return f"{self._url.scheme}://{self._host}{self._url.path}/{path}"

    async def request(
        self, path: str, *, max_bytes: int, token: str | None, content: object = None
    ) -> Response:
        """
        GET from an endpoint, or POST a JSON content to it.

        Args:
            path: The endpoint's path below the base URL.
            max_bytes: The largest body of its response.
            token: The token; None for a request without one.
            content: What is posted.

        Raises:
            ApiError: The token doesn't fit a header, or there is no response.
            trio.TooSlowError: It took too long.
        """
        # An error of the library would repeat the token.
        if token is not None and not (
            token.isascii() and token.isprintable() and token == token.strip()
        ):
            raise TokenError(
                "the API token (BRIDGE_API_TOKEN, or the account's api_token_file) has"
                " characters that no HTTP header can carry"
            )
        headers = {
            # Without it Laravel answers with a redirect to a login page.
            "Accept": "application/json",
            # A compressed body could be far larger than what is counted.
            "Accept-Encoding": "identity",
            "User-Agent": f"dryapi-kafka-bridge/{__version__}",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = b""
        if content is not None:
            body = msgspec.json.encode(content)
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(body))
        request = Request(
            "GET" if content is None else "POST",
            self._host,
            quote(f"{self._url.path}/{path}", safe="/%:@!$&'()*+,;=~"),
            headers,
            body,
            max_bytes,
        )
        with trio.fail_after(self.timeout_seconds):
            return await self._transport(request)

    async def _exchange(self, request: Request) -> Response:
        tls = self._tls()
        kept, self._kept = self._kept, None
        if kept is not None and kept.is_fresh and kept.tls is tls:
            try:
                return await self._exchange_on(kept, request)
            except ApiError:
                # The server may have closed it meanwhile, and has answered nothing.
                if kept.has_received:
                    raise
        elif kept is not None:
            await trio.aclose_forcefully(kept.stream)
        try:
            stream = await open_stream(self._url, tls)
        except ConnectError as error:
            raise ApiError(str(error)) from error
        return await self._exchange_on(_Connection(stream, tls), request)

    async def _exchange_on(self, connection: _Connection, request: Request) -> Response:
        try:
            response = await connection.exchange(request)
            is_current = self._keeps and connection.tls is self._tls()
            if is_current and self._kept is None and connection.is_fresh:
                self._kept = connection
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise ApiError(str(error) or "it closed the connection") from error
        finally:
            if self._kept is not connection:
                await trio.aclose_forcefully(connection.stream)
        return response


class _Connection:
    """One connection to dryAPI, with one request at a time."""

    def __init__(self, stream: trio.abc.Stream, tls: ssl.SSLContext) -> None:
        self.stream = stream
        self.tls = tls
        self.has_received = False
        self._used_at = 0.0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)

    @property
    def is_fresh(self) -> bool:
        """Whether another request may follow."""
        is_done = self._http.our_state is self._http.their_state is h11.DONE
        return is_done and trio.current_time() < self._used_at + _IDLE_SECONDS

    async def exchange(self, request: Request) -> Response:
        """Send a request and receive its response."""
        http = self._http
        if http.our_state is h11.DONE:
            http.start_next_cycle()
        self.has_received = False
        headers = [("Host", request.host), *request.headers.items()]
        head = h11.Request(
            method=request.method, target=request.target, headers=headers
        )
        sent = http.send(head) or b""
        sent += http.send(h11.Data(data=request.body)) or b""
        sent += http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(sent)
        left = _MAX_HEAD_BYTES
        while not isinstance(event := http.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                if left <= 0:
                    raise h11.RemoteProtocolError(
                        f"the server sent {_MAX_HEAD_BYTES} bytes of headers or"
                        " informational (1xx) responses and no response"
                    )
                if not (size := await self._receive(min(left, _READ_BYTES))):
                    raise h11.RemoteProtocolError("it closed the connection")
                left -= size
        names: dict[str, str] = {}
        for raw_name, value in event.headers:
            name, text = raw_name.decode(), value.decode("latin-1")
            names[name] = f"{names[name]}, {text}" if name in names else text
        body = await self._body(request.max_bytes)
        self._used_at = trio.current_time()
        return Response(event.status_code, names, body)

    async def _body(self, max_bytes: int) -> bytes | None:
        body, chunks = bytearray(), 0
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if event is h11.NEED_DATA:
                await self._receive(_READ_BYTES)
            elif isinstance(event, h11.Data):
                body += event.data
                chunks += 1
                if len(body) > max_bytes or chunks > max_bytes // _MIN_CHUNK_BYTES:
                    return None

    async def _receive(self, max_bytes: int) -> int:
        data = await self.stream.receive_some(max_bytes)
        self.has_received |= bool(data)
        self._http.receive_data(bytes(data))
        return len(data)


# -- Channel authorization -----------------------------------------------------

# A response has about 120 bytes. A login page in its place is not read to the end.
_MAX_AUTH_BYTES: Final = 64 * 1024

# Longer than any wait of the session's own; a longer Retry-After is cut to it.
_MAX_RETRY_AFTER_SECONDS: Final = 300.0

_APP_KEY: Final = "pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
_REFUSALS: Final = {
    401: (
        "dryAPI refused the API token (HTTP 401)",
        "Check BRIDGE_API_TOKEN, or the account's api_token_file in [[accounts]]",
    ),
    403: (
        "dryAPI refused the channel (HTTP 403)",
        (
            "Check BRIDGE_CLIENT_ID and that the API token (BRIDGE_API_TOKEN) belongs"
            " to it, or client_id and api_token_file of the account in [[accounts]]"
        ),
    ),
}


class _Signed(msgspec.Struct):
    auth: str


class Authorizer:
    """
    Signatures for a channel, from `POST {api}/broadcasting/auth`.

    Args:
        client: The client of the account.
        app_key: The key that the signature must be for.
    """

    _PATH: Final = "broadcasting/auth"

    def __init__(self, client: ApiClient, *, app_key: str) -> None:
        self._client = client
        self._place = client.place(self._PATH)
        self._app_key = app_key

    async def authorize(self, socket_id: str, channel: str) -> str:
        """
        Get a signature.

        Args:
            socket_id: The connection's identity; the signature is valid only for it.
            channel: The channel's name.

        Returns:
            `key:signature`, for `pusher:subscribe`.

        Raises:
            AuthorizationError: There is none; `terminal` says whether to ask again.
        """
        request = {"socket_id": socket_id, "channel_name": channel}
        token = self._client.token.reveal()
        try:
            return await self._request(token, request)
        except AuthorizationError as error:
            # The token may have been replaced in the meantime.
            renewed = self._client.token.reveal()
            if error.status != 401 or renewed == token:
                raise
        return await self._request(renewed, request)

    async def _request(self, token: str, request: dict[str, str]) -> str:
        try:
            response = await self._client.request(
                self._PATH, max_bytes=_MAX_AUTH_BYTES, token=token, content=request
            )
        except trio.TooSlowError as error:
            seconds = self._client.timeout_seconds
            raise AuthorizationError(
                f"{self._place} gave no answer within {seconds:g} s"
            ) from error
        except TokenError as error:
            raise AuthorizationError(str(error), terminal=True) from error
        except ApiError as error:
            raise AuthorizationError(f"can't ask {self._place}: {error}") from error
        return self._signature(response)

    def _signature(self, response: Response) -> str:
        status = response.status
        if status in _REFUSALS:
            message, hint = _REFUSALS[status]
            raise AuthorizationError(message, hint=hint, status=status, terminal=True)
        auth, problem = "", ""
        if response.is_redirect:
            problem = "is a redirect, which is not followed"
        elif status != 200:
            problem = "is no authorization"
        elif response.body is None:
            problem = f"has more than {_MAX_AUTH_BYTES} bytes, or too many chunks"
        else:
            try:
                auth = msgspec.json.decode(response.body, type=_Signed).auth
            except msgspec.ValidationError:
                problem = "has no string 'auth'"
            except (msgspec.MsgspecError, RecursionError, ValueError):
                problem = "is not JSON"
        key, _, signature = auth.partition(":")
        if key == self._app_key and signature:
            return auth
        problem = problem or f"is signed for another app than {_APP_KEY} names"
        after = response.headers.get("retry-after", "")
        wait = retry_after_seconds(after, datetime.now(UTC))
        raise AuthorizationError(
            f"the answer of {self._place} (HTTP {status}, {response.content_type})"
            f" {problem}",
            status=status,
            retry_after_seconds=wait and min(wait, _MAX_RETRY_AFTER_SECONDS),
        )


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
