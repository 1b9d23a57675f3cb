"""Channel authorisation against every answer that the endpoint was seen to give."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx  # noqa: TID251 - answers are played by its MockTransport
import pytest
import trio

from bridge.errors import AuthorizationError
from bridge.http.client import ApiClient, Authorizer
from bridge.settings import Secret
from tests.kit.played import played


TOKEN = "token-8d1f"
SIGNATURE = "5" * 64
AUTH = f"app-key:{SIGNATURE}"
CHANNEL = "private-client.42"

Handler = Callable[[httpx.Request], httpx.Response]


def _authorizer(
    handler: Handler, token: Secret | None = None, api_url: str = "https://api.test"
) -> Authorizer:
    client = ApiClient(
        api_url,
        token or Secret(TOKEN),
        timeout_seconds=10,
        transport=played(httpx.MockTransport(handler)),
    )
    return Authorizer(client, app_key="app-key")


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


@pytest.mark.parametrize("accepted", ["token-2", "none"])
async def test_row_29_a_renewed_token_is_tried_once(
    tmp_path: Path, accepted: str
) -> None:
    """A token file that changed since the request gets one more request, not two."""
    file = tmp_path / "token"
    file.write_text("token-1")
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"].removeprefix("Bearer "))
        file.write_text(f"token-{len(seen) + 1}")
        return _signed() if seen[-1] == accepted else _response(401)

    if accepted == "none":
        assert (await _failure(handler, Secret.from_file(file))).terminal
    else:
        authorizer = _authorizer(handler, Secret.from_file(file))
        assert await authorizer.authorize("1.2", CHANNEL) == AUTH
    assert seen == ["token-1", "token-2"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "BRIDGE_API_TOKEN"),
        (403, "BRIDGE_CLIENT_ID"),
        *((status, f"HTTP {status}") for status in (500, 502, 503, 404, 419, 204)),
    ],
)
async def test_rows_28_29_30_a_status_is_final_or_worth_another_try(
    status: int, words: str
) -> None:
    """Refusals name the setting; other statuses say nothing about the token."""
    error = await _failure(_answering(status, '{"message":"Unauthenticated."}'))
    assert error.terminal is (status in {401, 403})
    assert error.status == status
    assert words in str(error)


async def test_row_28_retry_after_is_kept_within_bounds() -> None:
    """Seconds or a date, at most five minutes; nonsense is no wish."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    wishes = {
        "7": 7.0,
        "0": 0.0,
        "86400": 300.0,
        "9" * 99: 300.0,
        "soon": None,
        "-5": None,
        "Wed, 21 Oct 2015 07:28:00 GMT": 0.0,
        "Wed, 21 Oct 2015 07:28:00 -0000": 0.0,
        f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT": None,
        soon: pytest.approx(55, abs=5),
    }
    failures = {
        wish: await _failure(_answering(429, retry_after=wish)) for wish in wishes
    }
    assert {wish: one.retry_after_seconds for wish, one in failures.items()} == wishes
    assert not any(one.terminal for one in failures.values())


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
