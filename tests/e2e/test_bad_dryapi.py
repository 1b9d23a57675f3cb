"""What is wrong on dryAPI's side, or in what the user says of it, is told clearly."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from tests.e2e.auth_endpoint import AuthEndpoint, AuthRequest, Reply, signing
from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.process import free_ports


def _attempts(count: int) -> Callable[[Metrics], bool]:
    return lambda now: now.total("bridge_connects_total") >= count


async def _check_keeps_trying(bridge: BridgeProcess, reason: str) -> None:
    """It tries again and again, says why, is alive, not ready, and stops cleanly."""
    await bridge.wait_metrics(_attempts(3))
    (failed, *_) = bridge.logged("session.failed")
    assert reason in failed["reason"]
    live, ready = await bridge.ask("/livez"), await bridge.ask("/readyz")
    assert live is not None
    assert ready is not None
    assert (live.status, ready.status) == (200, 503)
    assert await bridge.stop() == 0
    assert bridge.sentences == []


async def test_missing_settings_end_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 2 and a line for each, that names its variable."""
    bridge = scene.bridge(dryapi, client_id="", api_token="")
    bridge.start()
    assert await bridge.wait_exit() == 2
    client_id, token = bridge.sentences
    assert "BRIDGE_CLIENT_ID" in client_id
    assert "BRIDGE_API_TOKEN" in token


async def test_a_wrong_token_ends_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 3, and the sentence names the token's variable, not the token."""
    bridge = scene.bridge(dryapi, api_token=f"{scene.account.token}-wrong")
    bridge.start()
    sentence = await bridge.wait_refusal(3)
    assert "HTTP 401" in sentence
    assert "BRIDGE_API_TOKEN" in sentence


async def test_a_wrong_client_id_ends_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 3, and the sentence names the client id's variable."""
    bridge = scene.bridge(dryapi, client_id="somebody-else")
    bridge.start()
    sentence = await bridge.wait_refusal(3)
    assert "HTTP 403" in sentence
    assert "BRIDGE_CLIENT_ID" in sentence


async def test_a_wrong_app_key_ends_the_start(scene: Scene, dryapi: str) -> None:
    """Exit code 3: soketi knows no such app, and the sentence names the key's."""
    bridge = scene.bridge(dryapi, pusher_app_key="no-such-key")
    bridge.start()
    sentence = await bridge.wait_refusal(3)
    assert "no such app" in sentence
    assert "BRIDGE_PUSHER_APP_KEY" in sentence


async def test_an_unreachable_server_is_tried_again(scene: Scene, dryapi: str) -> None:
    """It names the address and stays until the server is there or it is stopped."""
    (port,) = free_ports(1)
    bridge = scene.bridge(dryapi, pusher_url=f"ws://127.0.0.1:{port}")
    bridge.start()
    await _check_keeps_trying(bridge, f"can't reach 127.0.0.1:{port}")


async def test_a_name_that_no_dns_knows_is_tried_again(
    scene: Scene, dryapi: str
) -> None:
    """It names the host: RFC 6761 keeps `.invalid` from ever being one."""
    bridge = scene.bridge(dryapi, pusher_url="wss://soketi.invalid:443")
    bridge.start()
    await _check_keeps_trying(bridge, "can't resolve 'soketi.invalid'")


@asynccontextmanager
async def _tls_server(authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """Serve TLS with a certificate for a name; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    secured = trio.SSLListener(listener, context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [secured])
        yield port
        nursery.cancel_scope.cancel()


async def test_a_certificate_for_another_name_is_refused_and_tried_again(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """Trusted authority, wrong name: the sentence names the address and the reason."""
    authority = trustme.CA()
    ca_file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with _tls_server(authority, "soketi.example") as port:
        bridge = scene.bridge(
            dryapi, pusher_url=f"wss://127.0.0.1:{port}", pusher_ca_file=ca_file
        )
        bridge.start()
        await _check_keeps_trying(
            bridge,
            f"the certificate of 127.0.0.1:{port} was not accepted: IP address"
            " mismatch",
        )


def _html(_: AuthRequest) -> Reply:
    page = b"<html><title>Log in</title> canary-page </html>"
    return Reply(200, page, {"Content-Type": "text/html; charset=UTF-8"})


def _redirect(_: AuthRequest) -> Reply:
    return Reply(302, b"", {"Location": "/login"})


def _failure(_: AuthRequest) -> Reply:
    return Reply(500, b"Route [login] not defined: canary-page")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_html, "(HTTP 200, text/html; charset=UTF-8) is not JSON"),
        (_redirect, "(HTTP 302, no content type) is a redirect, which is not followed"),
        (_failure, "(HTTP 500, no content type) is no authorisation"),
    ],
    ids=["html", "redirect", "failure"],
)
async def test_an_auth_endpoint_that_answers_something_else_is_asked_again(
    scene: Scene, answer: Callable[[AuthRequest], Reply], words: str
) -> None:
    """It says what came instead, follows nowhere, and goes on once it gets better."""
    with AuthEndpoint(answer).serving() as auth:
        bridge = scene.bridge(auth.url)
        bridge.start()
        failed = await bridge.wait_logged("authorization.failed")
        assert f"the answer of {auth.url}/broadcasting/auth {words}" in failed["reason"]
        ready = await bridge.ask("/readyz")
        assert ready is not None
        assert ready.status == 503

        auth.answer = signing(scene.soketi)
        await bridge.wait_ready()
        async with scene.load() as load:
            await load.run_together([job(3)])
            check_exactly(await scene.records(load.count), load.accepted)
        assert await bridge.stop() == 0
    assert len(auth.requests) >= 2
    assert auth.strayed == []
    assert {request.accept for request in auth.requests} == {"application/json"}
    assert "canary-page" not in bridge.all_output


async def test_a_dryapi_that_is_away_is_asked_again(scene: Scene) -> None:
    """It names the address that can't be asked."""
    (port,) = free_ports(1)
    bridge = scene.bridge(f"http://127.0.0.1:{port}")
    bridge.start()
    failed = await bridge.wait_logged("authorization.failed")
    assert f"can't ask http://127.0.0.1:{port}/broadcasting/auth" in failed["reason"]
    assert await bridge.stop() == 0
    assert bridge.sentences == []
