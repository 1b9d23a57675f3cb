"""Channel authorisation against every answer that the endpoint was seen to give."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import httpx  # noqa: TID251 - answers are played by its MockTransport
import pytest
import trio

from bridge.errors import AuthorizationError, ConfigError
from bridge.pusher.authorizer import Authorizer
from bridge.settings import Secret


TOKEN = "token-8d1f"
SIGNATURE = "5" * 64
AUTH = f"app-key:{SIGNATURE}"
CHANNEL = "private-client.42"

Handler = Callable[[httpx.Request], httpx.Response]


def _authorizer(
    handler: Handler, token: Secret | None = None, api_url: str = "https://api.test"
) -> Authorizer:
    return Authorizer(
        api_url,
        token or Secret(TOKEN),
        app_key="app-key",
        timeout_seconds=10,
        transport=httpx.MockTransport(handler),
    )


def _response(
    status: int, content: str | bytes = "", headers: dict[str, str] | None = None
) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield content.encode() if isinstance(content, str) else content

    return httpx.Response(status, content=body(), headers=headers)


def _signed() -> httpx.Response:
    return _response(200, json.dumps({"auth": AUTH}))


def _answering(status: int, content: str | bytes = "", **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: _response(status, content, named)


async def _failure(handler: Handler, token: Secret | None = None) -> AuthorizationError:
    with pytest.raises(AuthorizationError) as caught:
        await _authorizer(handler, token).authorize("1.2", CHANNEL)
    shown = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in shown
    assert SIGNATURE not in shown
    return caught.value


async def test_a_signature_is_asked_for_as_dryapi_documents_it() -> None:
    """JSON body, bearer token, JSON accepted, path below the base."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return _signed()

    authorizer = _authorizer(handler, api_url="https://api.test/prefix/")
    assert await authorizer.authorize("1.2", CHANNEL) == AUTH
    (request,) = requests
    assert request.method == "POST"
    assert str(request.url) == "https://api.test/prefix/broadcasting/auth"
    assert json.loads(request.content) == {"socket_id": "1.2", "channel_name": CHANNEL}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


async def test_row_29_401_is_final_and_names_the_token() -> None:
    """Asking again with the same token is pointless."""
    error = await _failure(_answering(401, '{"message":"Unauthenticated."}'))
    assert error.terminal
    assert error.status == 401
    assert "BRIDGE_API_TOKEN" in str(error)


async def test_row_29_a_renewed_token_is_tried_once(tmp_path: Path) -> None:
    """A token file that changed since the request gets one more request."""
    file = tmp_path / "token"
    file.write_text("old")
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        file.write_text("renewed")
        if seen[-1] == "Bearer renewed":
            return _signed()
        return _response(401)

    authorizer = _authorizer(handler, Secret.from_file(file))
    assert await authorizer.authorize("1.2", CHANNEL) == AUTH
    assert seen == ["Bearer old", "Bearer renewed"]


async def test_row_29_a_renewed_token_that_is_refused_too_is_final(
    tmp_path: Path,
) -> None:
    """There is no third request."""
    file = tmp_path / "token"
    file.write_text("token-1")
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        file.write_text(f"token-{len(seen) + 1}")
        return _response(401)

    error = await _failure(handler, Secret.from_file(file))
    assert error.terminal
    assert len(seen) == 2


async def test_row_30_403_is_final_and_names_the_client_id() -> None:
    """The token is good and the channel is not its own."""
    error = await _failure(_answering(403))
    assert error.terminal
    assert error.status == 403
    assert "BRIDGE_CLIENT_ID" in str(error)


@pytest.mark.parametrize("status", [500, 502, 503, 404, 419, 204])
async def test_row_28_other_statuses_are_worth_another_try(status: int) -> None:
    """They say nothing about the token."""
    error = await _failure(_answering(status))
    assert not error.terminal
    assert error.status == status
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("9" * 99, 300.0),
        ("soon", None),
        ("-5", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        (f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT", None),
    ],
)
async def test_row_28_retry_after_is_kept_within_bounds(
    value: str, seconds: float | None
) -> None:
    """Seconds or a date, at most five minutes; nonsense is no wish."""
    error = await _failure(_answering(429, retry_after=value))
    assert error.retry_after_seconds == seconds
    assert not error.terminal


async def test_row_28_retry_after_may_be_a_date() -> None:
    """The seconds until then are meant."""
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = await _failure(_answering(503, retry_after=until))
    assert error.retry_after_seconds is not None
    assert 50 < error.retry_after_seconds <= 60


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_answering(302, location="/login"), "HTTP 302, .*redirect"),
        (_answering(200, "<html>", content_type="text/html"), "text/html.* not JSON"),
        (_answering(200, '{"a":' + "[" * 60_000), "not JSON"),
        (_answering(200, b"\xff\xfe"), "no content type.* not JSON"),
        (_answering(200, "null"), "no string 'auth'"),
        (_answering(200, "{}"), "no string 'auth'"),
        (_answering(200, '{"auth":{"a":1}}'), "no string 'auth'"),
        (_answering(200, f'{{"auth":"other:{SIGNATURE}"}}'), "BRIDGE_PUSHER_APP_KEY"),
        (_answering(200, f'{{"auth":"{SIGNATURE}"}}'), "BRIDGE_PUSHER_APP_KEY"),
        (_answering(200, '{"auth":"app-key:"}'), "BRIDGE_PUSHER_APP_KEY"),
        (_answering(200, "x", content_type="a" * 999), "a{80}\\) is not JSON"),
    ],
)
async def test_row_31_an_unusable_answer_is_named_by_status_and_type(
    handler: Handler, words: str
) -> None:
    """Status and content type are reported, nothing of the body."""
    error = await _failure(handler)
    assert not error.terminal
    with pytest.raises(AuthorizationError, match=words):
        raise error


async def test_row_31_a_huge_body_is_not_read_to_its_end() -> None:
    """Reading stops at the cap."""
    given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            await trio.lowlevel.checkpoint()
            given += 1000
            yield b"x" * 1000

    error = await _failure(lambda _: httpx.Response(200, content=body()))
    assert "more than" in str(error)
    assert given <= 67_000


async def test_row_28_a_slow_answer_is_a_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The whole request has one deadline, the body included."""

    async def body() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(3)
            yield b" "

    error = await _failure(lambda _: httpx.Response(200, content=body()))
    assert "within 10 s" in str(error)
    assert trio.current_time() == 10


@pytest.mark.parametrize("token", ["with\nline", "ümlaut", "trailing ", "\x00"])
async def test_a_token_that_fits_no_header_is_never_shown(token: str) -> None:
    """Libraries would quote it in their errors."""

    def handler(_: httpx.Request) -> httpx.Response:
        pytest.fail("asked")

    error = await _failure(handler, Secret(token))
    assert error.terminal
    assert token.strip() not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("api_url", ["", "api.test", "ftp://api.test", "http://", "::"])
def test_a_base_url_that_is_none_names_the_setting(api_url: str) -> None:
    """The error is about the setting, at the start."""
    with pytest.raises(ConfigError, match="BRIDGE_API_URL"):
        _authorizer(_answering(200), api_url=api_url)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Give a port that is bound and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_refused_connection_names_the_endpoint(unused_port: int) -> None:
    """The URL's user and password are not part of the name."""
    authorizer = Authorizer(
        f"http://user:word@127.0.0.1:{unused_port}",
        Secret(TOKEN),
        app_key="app-key",
        timeout_seconds=10,
    )
    with pytest.raises(AuthorizationError) as caught:
        await authorizer.authorize("1.2", CHANNEL)
    assert f"127.0.0.1:{unused_port}/broadcasting/auth" in str(caught.value)
    assert "word" not in str(caught.value)


async def test_a_real_request_reaches_a_real_server(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TCP, without the environment's proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    requests: list[bytes] = []

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while not request.endswith(b"}"):
                request += await stream.receive_some()
            requests.append(request)
            body = json.dumps({"auth": AUTH}).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all(head.encode() + body)

    serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    authorizer = Authorizer(
        f"http://127.0.0.1:{listener.socket.getsockname()[1]}",
        Secret(TOKEN),
        app_key="app-key",
        timeout_seconds=10,
    )
    assert await authorizer.authorize("1.2", CHANNEL) == AUTH
    assert b"accept-encoding: identity" in requests[0].lower()
