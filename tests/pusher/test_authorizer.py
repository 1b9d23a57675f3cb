"""Channel authorization against every answer that the endpoint was seen to give."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trio

from bridge.errors import AuthorizationError
from bridge.pusher.authorizer import authorize
from bridge.settings import Secret
from tests.kit.answering import TOKEN, Server, response


SIGNATURE = "5" * 64
AUTH = f"app-key:{SIGNATURE}"
CHANNEL = "private-client.42"

_SIGNED_BODY = json.dumps({"auth": AUTH}).encode()
_SIGNED = response(200, _SIGNED_BODY)

_APP_KEY = "BRIDGE_PUSHER_APP_KEY"


async def _authorized(server: Server, token: Secret | None = None) -> str:
    return await authorize(server.client(token), "app-key", "1.2", CHANNEL)


async def _failure(
    server: Server, nursery: trio.Nursery, token: Secret | None = None
) -> AuthorizationError:
    await server.start(nursery)
    with pytest.raises(AuthorizationError) as caught:
        await _authorized(server, token)
    shown = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in shown
    assert SIGNATURE not in shown
    return caught.value


async def test_a_signature_is_asked_for_as_dryapi_documents_it(
    nursery: trio.Nursery,
) -> None:
    """JSON body, bearer token, JSON accepted, path below the base."""
    server = await Server(_SIGNED).start(nursery)
    server.url += "/prefix/"
    assert await _authorized(server) == AUTH
    head, _, content = server.requests[0].decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    assert line == "POST /prefix/broadcasting/auth HTTP/1.1"
    assert json.loads(content) == {"socket_id": "1.2", "channel_name": CHANNEL}
    assert {
        "Content-Type: application/json",
        "Accept: application/json",
        f"Authorization: Bearer {TOKEN}",
    } <= set(fields)


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_row_29_a_renewed_token_is_tried_once(
    nursery: trio.Nursery, tmp_path: Path, *, is_accepted: bool
) -> None:
    """A token file that changed since the request gets one more request, not two."""
    file = tmp_path / "token"
    file.write_text("token-1")
    server = Server(response(401), _SIGNED if is_accepted else response(401))

    def renew() -> None:
        file.write_text(f"token-{len(server.requests) + 1}")

    server.before_answer = renew
    if is_accepted:
        await server.start(nursery)
        assert await _authorized(server, Secret.from_file(file)) == AUTH
    else:
        error = await _failure(server, nursery, Secret.from_file(file))
        assert error.terminal
    tokens = [b"Bearer token-1" in one for one in server.requests]
    assert tokens == [True, False]


async def test_a_token_that_is_the_same_is_not_tried_again(
    nursery: trio.Nursery,
) -> None:
    """It would be refused again."""
    server = Server(response(401))
    assert (await _failure(server, nursery)).terminal
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "BRIDGE_API_TOKEN"),
        (403, "BRIDGE_CLIENT_ID"),
        *((status, f"HTTP {status}") for status in (500, 502, 503, 404, 419, 204)),
    ],
)
async def test_rows_28_29_30_a_status_is_final_or_worth_another_try(
    nursery: trio.Nursery, status: int, words: str
) -> None:
    """Refusals name the setting; other statuses say nothing about the token."""
    server = Server(response(status, b'{"message":"Unauthenticated."}'))
    error = await _failure(server, nursery)
    assert error.terminal is (status in {401, 403})
    assert error.status == status
    assert words in str(error)


async def test_row_28_retry_after_is_kept_within_bounds(nursery: trio.Nursery) -> None:
    """Seconds or a date, at most five minutes; nonsense is ignored."""
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
        wish: await _failure(Server(response(429, retry_after=wish)), nursery)
        for wish in wishes
    }
    assert {wish: one.retry_after_seconds for wish, one in failures.items()} == wishes
    assert not any(one.terminal for one in failures.values())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(302, location="/login"), "HTTP 302, .*redirect"),
        (response(200, b"<html>", content_type="text/html"), "text/html.* not JSON"),
        (response(200, b'{"a":' + b"[" * 60_000), "not JSON"),
        (response(200, b"\xff\xfe"), "no content type.* not JSON"),
        (response(200, b"null"), "no string 'auth'"),
        (response(200, b"{}"), "no string 'auth'"),
        (response(200, b'{"auth":{"a":1}}'), "no string 'auth'"),
        (
            response(200, f'{{"auth":"other:{SIGNATURE}"}}'.encode()),
            "BRIDGE_PUSHER_APP_KEY",
        ),
        (response(200, _SIGNED_BODY.replace(b"app-key:", b"")), _APP_KEY),
        (response(200, b'{"auth":"app-key:"}'), _APP_KEY),
        (response(200, b" " * 66_000), "more than 65536 bytes"),
        (response(200, b"x", content_type="a" * 999), "a{80}\\) is not JSON"),
    ],
)
async def test_row_31_an_unusable_answer_is_named_by_status_and_type(
    nursery: trio.Nursery, answer: bytes, words: str
) -> None:
    """Status and content type are reported, nothing of the body."""
    error = await _failure(Server(answer), nursery)
    assert not error.terminal
    with pytest.raises(AuthorizationError, match=words):
        raise error
