"""The client of the status endpoint, at the socket, and what its answers say."""

from __future__ import annotations

import json
import re
import ssl
from functools import partial
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError, InvalidAnswerError, InvalidEventError
from bridge.events.job_status import Change
from bridge.events.parsing import parse
from bridge.gaps.limiter import Limits
from bridge.gaps.status import (
    Answer,
    Outcome,
    ask,
    event_of,
    without_extras,
)
from bridge.http.client import ApiClient
from bridge.settings import Secret
from tests.kit.answering import TOKEN, Server, response
from tests.kit.process import free_ports
from tests.sandbox.client import wait_until


PATH = b"/api/v1/client/request-status/"

# As dryAPI documents it.
DONE = {
    "status": "done",
    "preview": "https://cdn.test/preview?signature=hidden",
    "result_url": "https://cdn.test/result?signature=hidden",
    "results_alt_formats": {"jpg": "https://cdn.test/a.jpg", "webp": None},
    "result": None,
    "progress": 100.0,
}
BODY = json.dumps({"data": DONE}).encode()


async def _asked(server: Server, token: Secret | None = None) -> Answer:
    """Ask it once; no answer shows what must not be seen."""
    answer = await ask(server.client(token), "job-1")
    assert TOKEN not in repr(answer)
    assert "hidden" not in answer.reason
    return answer


# -- Requests ----------------------------------------------------------------


async def test_a_request_is_as_dryapi_documents_it(nursery: trio.Nursery) -> None:
    """Bearer token, JSON accepted, the path below the base URL; nothing compressed."""
    server = await Server(response(200, BODY)).start(nursery)
    server.url += "/prefix/"
    request_id = "123e4567-e89b-12d3-a456-426614174000"
    answer = await ask(server.client(), request_id)
    job_status, event = event_of(request_id, BODY)
    assert answer == Answer(Outcome.ANSWERED, Limits(), 200, job_status, event)
    line, *fields = server.requests[0].decode().lower().strip().split("\r\n")
    assert line == (
        "get /prefix/api/v1/client/request-status/"
        "123e4567-e89b-12d3-a456-426614174000 http/1.1"
    )
    headers = dict(field.split(": ", 1) for field in fields)
    assert headers["authorization"] == f"bearer {TOKEN}"
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("dryapi-kafka-bridge/")


async def test_an_id_is_one_segment_of_the_path(nursery: trio.Nursery) -> None:
    """Whatever it is, no other path is requested, and dot segments not at all."""
    segments = {
        "a/b": b"a%2Fb",
        "../../../broadcasting/auth": b"..%2F..%2F..%2Fbroadcasting%2Fauth",
        "...": b"...",
        "a?b#c": b"a%3Fb%23c",
        "100%": b"100%25",
        "%2e%2e": b"%252e%252e",
        "a b;c\\d@e:f": b"a%20b%3Bc%5Cd%40e%3Af",
        "\u00e9\U0001f600": b"%C3%A9%F0%9F%98%80",
        "x" * 256: b"x" * 256,
    }
    server = await Server(response(200, BODY)).start(nursery)
    client = server.client()
    for request_id in segments:
        await ask(client, request_id)
    for request_id in (".", "..", ""):
        # Percent-encoded it would still be a step in the path.
        assert (await ask(client, request_id)).outcome is Outcome.NOT_FOUND
    paths = [request.split(b" ")[1] for request in server.requests]
    assert paths == [PATH + segment for segment in segments.values()]


_REDIRECT = response(302, location="/login")
_LIMITS = {
    "X-RateLimit-Limit": "50",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Daily-Limit": "200",
    "X-RateLimit-Daily-Remaining": "150",
}


@pytest.mark.parametrize(
    ("sent", "outcome", "words"),
    [
        (response(404, BODY), Outcome.NOT_FOUND, "HTTP 404"),
        (response(404, b"<html>"), Outcome.FAILED, "HTTP 404, and not as dryAPI"),
        (response(404), Outcome.FAILED, "HTTP 404, and not as dryAPI"),
        (response(401, BODY), Outcome.REFUSED, "BRIDGE_API_TOKEN"),
        (response(403, BODY), Outcome.REFUSED, "BRIDGE_API_TOKEN"),
        (response(429, BODY), Outcome.LIMITED, "HTTP 429"),
        (response(500, BODY), Outcome.FAILED, "HTTP 500"),
        (response(503, BODY), Outcome.FAILED, "HTTP 503"),
        (response(418, BODY), Outcome.FAILED, "HTTP 418"),
        (_REDIRECT, Outcome.FAILED, "302, a redirect, which"),
        (response(200), Outcome.FAILED, "no content type.* isn't a JSON object"),
        (
            response(200, b"<html>hidden", content_type="text/html"),
            Outcome.FAILED,
            "text/html.* isn't a JSON object",
        ),
        (response(200, b'["hidden"]'), Outcome.FAILED, "isn't a JSON object"),
        (response(200, b"\xff\xfe"), Outcome.FAILED, "isn't a JSON object"),
        (
            response(200, b'{"a":' + b"[" * 60_000),
            Outcome.FAILED,
            "isn't a JSON object",
        ),
        (response(200, b"x", content_type="a" * 999), Outcome.FAILED, "a{80}\\) that"),
        (response(200, b" " * 9 * 2**20), Outcome.FAILED, "more than 8388608 bytes"),
    ],
)
async def test_each_response_has_its_outcome(
    nursery: trio.Nursery, sent: bytes, outcome: Outcome, words: str
) -> None:
    """With a reason that quotes nothing of the body; no redirect is followed."""
    server = await Server(sent).start(nursery)
    answer = await _asked(server)
    assert answer.outcome is outcome
    assert (answer.job_status, answer.event) == ("", None)
    assert re.search(words, answer.reason)
    assert len(server.requests) == 1


async def test_limits_are_read_from_each_response(nursery: trio.Nursery) -> None:
    """Also from one that refuses."""
    refusal = _LIMITS | {"Retry-After": "45", "X-RateLimit-Type": "minute"}
    for status in (200, 404, 500, 429):
        headers = refusal if status == 429 else _LIMITS
        server = await Server(response(status, BODY, **headers)).start(nursery)
        more = (45.0, "minute") if status == 429 else ()
        assert (await _asked(server)).limits == Limits(50, 0, 200, 150, *more)


@pytest.mark.parametrize("token", ["with\nline", "\u00fcmlaut", "trailing ", "\x00"])
async def test_a_token_that_fits_no_header_is_never_sent(
    nursery: trio.Nursery, token: str
) -> None:
    """A library would repeat it in its error."""
    server = await Server(response(200, BODY)).start(nursery)
    answer = await _asked(server, Secret(token))
    assert answer.outcome is Outcome.REFUSED
    assert token.strip() not in answer.reason
    assert server.connections == 0


# -- Connections --------------------------------------------------------------


async def test_a_slow_response_is_a_failure(nursery: trio.Nursery) -> None:
    """The whole request has one deadline, the body included."""

    async def drip(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
                while True:
                    await stream.send_all(b" ")
                    await trio.sleep(0.05)
        except trio.BrokenResourceError:
            pass  # the client has closed the connection

    (listener,) = await nursery.start(
        partial(trio.serve_tcp, drip, 0, host="127.0.0.1")
    )
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    client = ApiClient(url, Secret(TOKEN), timeout_seconds=0.3)
    with trio.fail_after(5):
        answer = await ask(client, "job-1")
    assert (answer.outcome, answer.status) == (Outcome.FAILED, None)
    assert "within 0.3 s" in answer.reason


async def test_no_connection_is_a_failure() -> None:
    """The URL's user and password are not part of the reason."""
    (port,) = free_ports(1)
    url = f"http://user:word@127.0.0.1:{port}"
    api = ApiClient(url, Secret(TOKEN), timeout_seconds=10)
    answer = await ask(api, "job-1")
    assert answer.outcome is Outcome.FAILED
    assert f"http://127.0.0.1:{port}/api/v1" in answer.reason
    assert "word" not in answer.reason


async def test_a_certificate_that_is_not_trusted_names_the_setting(
    nursery: trio.Nursery,
) -> None:
    """A private authority is the usual reason."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await Server().start(nursery, context)
    answer = await _asked(server)
    assert answer.outcome is Outcome.FAILED
    assert "BRIDGE_PUSHER_CA_FILE" in answer.reason


async def test_a_cancelled_request_leaves_nothing_behind(
    nursery: trio.Nursery,
) -> None:
    """Its connection is closed."""
    server = await Server().start(nursery)
    async with trio.open_nursery() as asking:
        asking.start_soon(_asked, server)
        await wait_until(lambda: server.connections == 1)
        asking.cancel_scope.cancel()
    await wait_until(lambda: (server.connections, server.closed) == (1, 1))


@pytest.mark.parametrize(
    "api_url",
    ["", "api.test", "ftp://api.test", "http://", "::", "http://a..b", "http://a:x"],
)
def test_a_base_url_that_is_not_one_names_the_setting(api_url: str) -> None:
    """The error is about the setting, at the start."""
    with pytest.raises(ConfigError, match="BRIDGE_API_URL"):
        ApiClient(api_url, Secret(TOKEN), timeout_seconds=10)


# -- What an answer says of a job ---------------------------------------------


def _body(**changes: Any) -> bytes:
    return json.dumps({"data": DONE | changes}).encode()


def _event(body: bytes) -> dict[str, Any]:
    _, event = event_of("job-1", body)
    assert event is not None
    decoded: dict[str, Any] = json.loads(event)
    return decoded


def test_a_job_that_has_ended() -> None:
    """Its id is added, its preview is null, and what isn't null passes through."""
    done = {
        "request_id": "job-1",
        "status": "done",
        "preview": None,
        "result_url": DONE["result_url"],
        "results_alt_formats": DONE["results_alt_formats"],
        "progress": 100.0,
    }
    assert event_of("job-1", _body())[0] == "done"
    # It may name the job that was asked about, which isn't documented.
    assert _event(_body()) == _event(_body(request_id="job-1")) == done
    failed = {"status": "error", "result_url": None, "results_alt_formats": None}
    assert _event(_body(**failed, progress=12.5, error_code="TIMEOUT")) == {
        "request_id": "job-1",
        "status": "error",
        "preview": None,
        "result_url": None,
        "progress": 12.5,
        "error_code": "TIMEOUT",
    }


def test_pending_is_not_an_event() -> None:
    """It is never pushed; what becomes of any other status the intake knows."""
    assert event_of("job-1", _body(status="pending")) == ("pending", None)
    for status in ("in_progress", "cancelled", ""):
        assert event_of("job-1", _body(status=status))[0] == status
        assert _event(_body(status=status))["status"] == status


@pytest.mark.parametrize(
    ("literal", "published"),
    [("45.5", "45.50"), ("0.0", "0.00"), ("33.333333333333336", "33.333333333333336")],
)
def test_progress_is_the_number_that_it_was(literal: str, published: str) -> None:
    """The intake makes the decimal string of it and notes that."""
    body = f'{{"data":{{"status":"processing","progress":{literal}}}}}'.encode()
    _, event = event_of("job-1", body)
    assert event is not None
    status = parse(event.decode())
    assert status.progress == published
    assert status.normalized == (Change.MISSING_FIELD, Change.PROGRESS_NUMBER)


def test_what_only_passes_through_can_be_left_out() -> None:
    """For a text that makes the event too large."""
    _, event = event_of("job-1", _body(result="a text " * 99, error_code="X"))
    assert event is not None
    assert b"a text" in event
    assert json.loads(without_extras(event)) == {
        "request_id": "job-1",
        "status": "done",
        "preview": None,
        "result_url": DONE["result_url"],
        "progress": 100.0,
        "error_code": "X",
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>secret</html>", "it isn't a JSON object"),
        (b'{"data":{"status":"done","x":"\xff"}}', "isn't a JSON object"),
        (b'{"data":' + b"[" * 90_000, "isn't a JSON object"),
        (b"{}", "'data' is missing or isn't a JSON object"),
        (b'{"data":["secret"]}', "'data' is missing or isn't a JSON object"),
        (b'{"data":{}}', "'status' is missing or isn't a string"),
        (b'{"data":{"status":{"secret":1}}}', "'status' is missing or isn't a string"),
        (b'{"data":{"status":"\\ud800"}}', "isn't a JSON object"),
        (b'{"data":{"status":"done","request_id":"secret"}}', "about another job"),
        (b'{"data":{"status":"done","request_id":7}}', "about another job"),
    ],
)
def test_another_shape_is_an_error_without_contents(body: bytes, words: str) -> None:
    """It says what is wrong, and quotes nothing."""
    with pytest.raises(InvalidAnswerError, match=words) as caught:
        event_of("job-1", body)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_names = st.sampled_from([*DONE, "request_id", "error_code"]) | st.text()
_data = st.dictionaries(_names, _values)


@given(st.binary() | st.builds(lambda data: json.dumps({"data": data}).encode(), _data))
def test_any_answer_is_an_event_or_an_error(body: bytes) -> None:
    """And an event is one for the intake: a record, or a dead letter."""
    try:
        _, event = event_of("job-1", body)
    except InvalidAnswerError:
        return
    if event is not None:
        for one in (event, without_extras(event)):
            try:
                status = parse(one.decode())
            except InvalidEventError as error:
                assert error.request_id in {"job-1", None}  # noqa: PT017
            else:
                assert status.request_id == "job-1"
                assert not status.has_preview
