"""Asking for a job's status, against every answer and none."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx  # noqa: TID251 - answers are played by its MockTransport
import pytest
import trio
from bridge.reconciliation.client import Answer, Outcome, StatusClient
from bridge.reconciliation.limits import Limits
from trio.testing import MockClock

from bridge.errors import ConfigError
from bridge.settings import Secret
from tests.kit.played import played


TOKEN = "token-8d1f"
HIDDEN = "https://cdn.test/a?signature=hidden"
BODY = json.dumps({"data": {"status": "done", "result_url": HIDDEN}}).encode()

Handler = Callable[[httpx.Request], httpx.Response]


def _client(
    handler: Handler, token: Secret | None = None, api_url: str = "https://api.test"
) -> StatusClient:
    return StatusClient(
        api_url,
        token or Secret(TOKEN),
        timeout_seconds=10,
        transport=played(httpx.MockTransport(handler)),
    )


def _response(
    status: int, content: bytes = b"", headers: dict[str, str] | None = None
) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield content

    return httpx.Response(status, content=body(), headers=headers)


def _answering(status: int, content: bytes = b"", **headers: str) -> Handler:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: _response(status, content, named)


async def _ask(handler: Handler, token: Secret | None = None) -> Answer:
    async with _client(handler, token) as client:
        answer = await client.ask("job-1")
    assert TOKEN not in repr(answer)
    assert "hidden" not in answer.reason
    return answer


async def test_a_status_is_asked_for_as_dryapi_documents_it() -> None:
    """Bearer token, JSON accepted, path below the base; the body comes as it is."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return _response(200, BODY)

    async with _client(handler, api_url="https://api.test/prefix/") as client:
        answer = await client.ask("123e4567-e89b-12d3-a456-426614174000")
    assert answer == Answer(Outcome.ANSWERED, Limits(), 200, BODY)
    (request,) = requests
    assert request.method == "GET"
    assert str(request.url) == (
        "https://api.test/prefix/api/v1/client/request-status/"
        "123e4567-e89b-12d3-a456-426614174000"
    )
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["user-agent"].startswith("dryapi-kafka-bridge/")


@pytest.mark.parametrize(
    ("request_id", "segment"),
    [
        ("a/b", b"a%2Fb"),
        ("../../../broadcasting/auth", b"..%2F..%2F..%2Fbroadcasting%2Fauth"),
        ("...", b"..."),
        ("a?b#c", b"a%3Fb%23c"),
        ("100%", b"100%25"),
        ("%2e%2e", b"%252e%252e"),
        ("a b;c\\d@e:f", b"a%20b%3Bc%5Cd%40e%3Af"),
        ("\u00e9\U0001f600", b"%C3%A9%F0%9F%98%80"),
        ("x" * 256, b"x" * 256),
    ],
)
async def test_an_id_is_one_segment_of_the_path(
    request_id: str, segment: bytes
) -> None:
    """Whatever it holds, no other path is asked."""
    paths: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return _response(200, BODY)

    async with _client(handler) as client:
        await client.ask(request_id)
    assert paths == [b"/api/v1/client/request-status/" + segment]


@pytest.mark.parametrize("request_id", [".", "..", ""])
async def test_an_id_that_no_path_can_hold_is_not_asked_for(request_id: str) -> None:
    """Percent-encoded, too, it would be taken for a step in the path."""

    def handler(_: httpx.Request) -> httpx.Response:
        pytest.fail("asked")

    async with _client(handler) as client:
        answer = await client.ask(request_id)
    assert answer.outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    ("handler", "outcome", "words"),
    [
        (_answering(404, BODY), Outcome.NOT_FOUND, "HTTP 404"),
        (_answering(404, b"<html>"), Outcome.FAILED, "HTTP 404, and not as dryAPI"),
        (_answering(404), Outcome.FAILED, "HTTP 404, and not as dryAPI"),
        (_answering(401, BODY), Outcome.REFUSED, "BRIDGE_API_TOKEN"),
        (_answering(403, BODY), Outcome.REFUSED, "BRIDGE_API_TOKEN"),
        (_answering(429, BODY), Outcome.LIMITED, "HTTP 429"),
        (_answering(500, BODY), Outcome.FAILED, "HTTP 500"),
        (_answering(503, BODY), Outcome.FAILED, "HTTP 503"),
        (_answering(204), Outcome.FAILED, "HTTP 204"),
        (_answering(418, BODY), Outcome.FAILED, "HTTP 418"),
        (_answering(302, location="/login"), Outcome.FAILED, "302, a redirect, which"),
        (_answering(200), Outcome.FAILED, "no content type.* no JSON object"),
        (
            _answering(200, b"<html>hidden", content_type="text/html"),
            Outcome.FAILED,
            "text/html.* no JSON object",
        ),
        (_answering(200, b'["hidden"]'), Outcome.FAILED, "no JSON object"),
        (_answering(200, b"\xff\xfe"), Outcome.FAILED, "no JSON object"),
        (_answering(200, b'{"a":' + b"[" * 60_000), Outcome.FAILED, "no JSON object"),
        (
            _answering(200, b"x", content_type="a" * 999),
            Outcome.FAILED,
            "a{80}\\) that",
        ),
    ],
)
async def test_each_answer_has_its_outcome(
    handler: Handler, outcome: Outcome, words: str
) -> None:
    """With a reason that quotes nothing of the body, which isn't handed on."""
    answer = await _ask(handler)
    assert answer.outcome is outcome
    assert answer.body == b""
    assert re.search(words, answer.reason)


async def test_limits_are_read_of_every_answer() -> None:
    """Also of one that refuses."""
    headers = {
        "X-RateLimit-Limit": "50",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Daily-Limit": "200",
        "X-RateLimit-Daily-Remaining": "150",
    }
    for status in (200, 404, 500):
        answer = await _ask(_answering(status, BODY, **headers))
        assert answer.limits == Limits(50, 0, 200, 150)
    refusal = headers | {"Retry-After": "45", "X-RateLimit-Type": "minute"}
    answer = await _ask(_answering(429, BODY, **refusal))
    assert answer.limits == Limits(50, 0, 200, 150, 45.0, "minute")


async def test_a_renewed_token_is_tried_once(tmp_path: Path) -> None:
    """A token file that changed since the request gets one more request."""
    file = tmp_path / "token"
    file.write_text("old")
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        file.write_text("renewed")
        return _response(200 if seen[-1] == "Bearer renewed" else 401, BODY)

    answer = await _ask(handler, Secret.from_file(file))
    assert answer.outcome is Outcome.ANSWERED
    assert seen == ["Bearer old", "Bearer renewed"]


async def test_a_refused_token_is_not_tried_again(tmp_path: Path) -> None:
    """Neither the same one, nor a third."""
    file = tmp_path / "token"
    file.write_text("token-1")
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        file.write_text(f"token-{len(seen) + 1}")
        return _response(401)

    assert (await _ask(handler, Secret.from_file(file))).outcome is Outcome.REFUSED
    assert seen == ["Bearer token-1", "Bearer token-2"]
    seen.clear()
    assert (await _ask(handler, Secret("same"))).outcome is Outcome.REFUSED
    assert seen == ["Bearer same"]


@pytest.mark.parametrize("token", ["with\nline", "\u00fcmlaut", "trailing ", "\x00"])
async def test_a_token_that_fits_no_header_is_never_sent(token: str) -> None:
    """Libraries would quote it in their errors."""

    def handler(_: httpx.Request) -> httpx.Response:
        pytest.fail("asked")

    answer = await _ask(handler, Secret(token))
    assert answer.outcome is Outcome.REFUSED
    assert token.strip() not in answer.reason


async def test_a_slow_answer_is_a_failure(autojump_clock: MockClock) -> None:
    """The whole request has one deadline, the body included."""

    async def body() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(3)
            yield b" "

    answer = await _ask(lambda _: httpx.Response(200, content=body()))
    assert answer.outcome is Outcome.FAILED
    assert answer.status is None
    assert "within 10 s (reconciliation.request_timeout_seconds)" in answer.reason
    assert trio.current_time() == 10


async def test_a_huge_body_is_not_read_to_its_end() -> None:
    """Reading stops at the cap."""
    given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            await trio.lowlevel.checkpoint()
            given += 1024 * 1024
            yield b" " * 1024 * 1024

    answer = await _ask(lambda _: httpx.Response(200, content=body()))
    assert answer.outcome is Outcome.FAILED
    assert "more than 8388608 bytes" in answer.reason
    assert given <= 10 * 1024 * 1024


@pytest.mark.parametrize(
    "api_url",
    ["", "api.test", "ftp://api.test", "http://", "::", "http://a..b", "http://a:x"],
)
def test_a_base_url_that_is_none_names_the_setting(api_url: str) -> None:
    """The error is about the setting, at the start."""
    with pytest.raises(ConfigError, match="BRIDGE_API_URL"):
        _client(_answering(200), api_url=api_url)
