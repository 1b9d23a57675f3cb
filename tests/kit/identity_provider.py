"""An OIDC provider of our own: a token endpoint with TLS, and the keys for a broker."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.kit.authorities import Authority


_LIFETIME_SECONDS = 300


class IdentityProvider:
    """Gives a client access tokens (RFC 6749, section 4.4) and keys to check them."""

    def __init__(self, authority: Authority) -> None:
        self.client_id = "bridge"
        self.client_secret = "correct-horse:battery/staple"
        self.audience = "kafka"
        self.answer: tuple[int, bytes] | None = None
        self.requests: list[dict[str, str]] = []
        self._key = RSAKey.generate_key(2048, {"kid": uuid.uuid4().hex}, private=True)
        self._identity = authority.identity("provider", "localhost")
        self._keys = _serve(self._give_keys)
        self.keys_url = f"http://127.0.0.1:{self._keys.server_address[1]}/keys"
        self._serve_tokens()

    def _serve_tokens(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._identity.certificate, self._identity.key)
        self._tokens = _serve(self._give_token)
        # In each connection's own thread: one that is only open delays no other.
        self._tokens.socket = context.wrap_socket(
            self._tokens.socket, server_side=True, do_handshake_on_connect=False
        )
        _start(self._tokens)

    def __getstate__(self) -> dict[str, Any]:
        """Give what another process needs: the key, with which it serves tokens."""
        state = {**self.__dict__, "_key": self._key.as_dict(private=True)}
        return {name: state[name] for name in state.keys() - {"_tokens", "_keys"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it, and serve tokens in this process."""
        self.__dict__.update(state)
        self._key = RSAKey.import_key(state["_key"])
        self._serve_tokens()

    def __enter__(self) -> Self:
        _start(self._keys)
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._tokens, self._keys):
            server.shutdown()
            server.server_close()

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"https://localhost:{self._tokens.server_address[1]}/token"

    @property
    def login_url(self) -> str:
        """A page for people on the same server."""
        return self.token_url.removesuffix("token") + "login"

    @property
    def issuer(self) -> str:
        """What tokens name as their issuer."""
        return "https://provider.example"

    def reset(self) -> None:
        """Be as at the beginning."""
        self.client_secret = "correct-horse:battery/staple"
        self.audience = "kafka"
        self.answer = None
        self.requests.clear()

    def token(self) -> str:
        """Sign a token for the client."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": self.client_id,
            "aud": self.audience,
            "scope": "kafka",
            "iat": now,
            "exp": now + _LIFETIME_SECONDS,
        }
        head = {"alg": "RS256", "kid": self._key.kid}
        return jwt.encode(head, claims, self._key)

    def _give_keys(self, _: BaseHTTPRequestHandler) -> tuple[int, Any]:
        public = self._key.as_dict(private=False)
        return 200, {"keys": [{**public, "use": "sig", "alg": "RS256"}]}

    def _give_token(self, request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        size = int(request.headers.get("Content-Length", "0"))
        form = dict(urllib.parse.parse_qsl(request.rfile.read(size).decode()))
        self.requests.append(form)
        if self.answer is not None:
            return self.answer
        if request.path != "/token":
            return 200, b"<html>canary-of-a-page</html>"
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return 401, {"error": "invalid_client"}
        # RFC 6749, section 2.3.1: both parts are encoded as forms are.
        user, _, secret = base64.b64decode(given).decode().partition(":")
        known = (self.client_id, self.client_secret)
        if (
            urllib.parse.unquote_plus(user),
            urllib.parse.unquote_plus(secret),
        ) != known:
            return 401, {"error": "invalid_client", "error_description": given}
        return 200, {
            "access_token": self.token(),
            "token_type": "Bearer",
            "expires_in": _LIFETIME_SECONDS,
        }


def _start(server: ThreadingHTTPServer) -> None:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()


def _serve(
    answer: Callable[[BaseHTTPRequestHandler], tuple[int, Any]],
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _reply(self) -> None:
            status, content = answer(self)
            body = (
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: clients that don't trust it leave in the handshake."""

    return Server(("127.0.0.1", 0), Handler)
