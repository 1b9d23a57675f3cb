"""TLS that ends at the port, and certificates that are replaced."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx  # noqa: TID251 - the good client of these tests
import pytest
import structlog
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from bridge.errors import ConfigError
from bridge.http.tls import ReloadingContext, server_tls
from tests.http.clients import (
    BRIEF,
    GET,
    PATIENCE_SECONDS,
    connected,
    served,
    trickle,
    until_end,
)


@dataclass(frozen=True)
class _Pair:
    """A certificate's files, in a folder that is replaced as Kubernetes does it."""

    folder: Path
    authority: trustme.CA

    @property
    def tls(self) -> ReloadingContext:
        data = self.folder / "data"
        return server_tls(str(data / "tls.crt"), str(data / "tls.key"))

    def replace(
        self, name: str, *, key: bytes | None = None, cert: bytes | None = None
    ) -> None:
        """Put a new pair in place, for a host name, or what isn't a pair."""
        issued = self.authority.issue_cert(name, "127.0.0.1")
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        version = self.folder / f"version-{len(list(self.folder.iterdir()))}"
        version.mkdir()
        (version / "tls.crt").write_bytes(chain if cert is None else cert)
        own = issued.private_key_pem.bytes()
        (version / "tls.key").write_bytes(own if key is None else key)
        link = self.folder / "new"
        link.symlink_to(version)
        link.replace(self.folder / "data")

    def context(self) -> ssl.SSLContext:
        """Make a client's context that trusts the authority."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    async def connected(
        self, port: int, context: ssl.SSLContext | None = None
    ) -> trio.SSLStream[trio.SocketStream]:
        """Connect, with the handshake."""
        stream = trio.SSLStream(
            await connected(port),
            context or self.context(),
            server_hostname="127.0.0.1",
            https_compatible=True,
        )
        await stream.do_handshake()
        return stream

    async def name_at(self, port: int) -> str:
        """Return for which host the certificate of a new handshake is."""
        async with await self.connected(port) as stream:
            return str(dict(stream.getpeercert()["subjectAltName"])["DNS"])


@pytest.fixture
def pair(tmp_path: Path) -> _Pair:
    """Make a pair for the name `first.test`."""
    made = _Pair(tmp_path, trustme.CA())
    made.replace("first.test")
    return made


async def test_good_client_is_answered(pair: _Pair) -> None:
    """Over HTTP/1.1, and the application knows of TLS."""
    async with (
        served(tls=pair.tls) as port,
        httpx.AsyncClient(verify=pair.context(), trust_env=False) as client,
    ):
        url = f"https://127.0.0.1:{port}/"
        for size in (5, 1_000_000):
            answer = await client.post(url, content=b"x" * size)
            assert (answer.text, answer.http_version) == (str(size), "HTTP/1.1")
        refused = await client.post(url + "refuse", content=b"x" * 200_000)
        assert refused.status_code == 401
        redirect = await client.get(url + "work/1/")
        assert redirect.headers["location"].startswith("https://")


async def test_application_may_abandon_a_body(pair: _Pair) -> None:
    """A wait that is cancelled leaves the stream whole: the answer is received."""
    head = b"POST /give-up HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"
    async with served(tls=pair.tls) as port:
        stream = await pair.connected(port)
        await stream.send_all(head + b"begun")
        answer, _ = await until_end(stream)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"too slow")
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"], []])
async def test_protocol_is_http_1_1(pair: _Pair, offered: list[str]) -> None:
    """No other is selected."""
    context = pair.context()
    if offered:
        context.set_alpn_protocols(offered)
    async with (
        served(tls=pair.tls) as port,
        await pair.connected(port, context) as stream,
    ):
        expected = "http/1.1" if "http/1.1" in offered else None
        assert stream.selected_alpn_protocol() == expected


def test_older_versions_are_refused(pair: _Pair) -> None:
    """TLS is 1.2 or 1.3, and no handshake is repeated."""
    context = pair.tls.current()
    newest = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert context.maximum_version in {newest, ssl.TLSVersion.TLSv1_3}
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b""),
        # A record of 512 bytes begins, and never ends.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"x"),
    ],
    ids=["silent", "trickling"],
)
async def test_handshake_that_never_ends_ends_the_connection(
    pair: _Pair, first: bytes, piece: bytes
) -> None:
    """The deadline is one of the whole handshake."""
    async with served(BRIEF, pair.tls) as port, trio.open_nursery() as nursery:
        begun = trio.current_time()
        stream = await connected(port)
        nursery.start_soon(trickle, stream, first, piece)
        await until_end(stream)
        late = trio.current_time() - begun - BRIEF.phase_seconds
        assert -0.1 < late < PATIENCE_SECONDS
        await stream.aclose()


async def test_plain_http_is_not_answered(pair: _Pair) -> None:
    """The connection ends at once."""
    async with served(tls=pair.tls) as port, await connected(port) as stream:
        await stream.send_all(GET)
        with trio.fail_after(PATIENCE_SECONDS):
            answer, _ = await until_end(stream)
        assert b"HTTP" not in answer


async def test_replaced_pair_is_used_for_new_handshakes(pair: _Pair) -> None:
    """Connections that are open continue; one that isn't a pair is logged once."""
    with structlog.testing.capture_logs() as logs:
        async with served(tls=pair.tls) as port:
            old = await pair.connected(port)
            # One pair's certificate with another's key, as between two copies.
            pair.replace("second.test", key=_other_key())
            assert await pair.name_at(port) == "first.test"
            assert await pair.name_at(port) == "first.test"
            (pair.folder / "data" / "tls.key").unlink()
            assert await pair.name_at(port) == "first.test"
            os.mkfifo(pair.folder / "data" / "tls.key")
            assert await pair.name_at(port) == "first.test"
            (pair.folder / "data" / "tls.key").unlink()
            pair.replace("third.test")
            assert await pair.name_at(port) == "third.test"
            assert await pair.name_at(port) == "third.test"
            await old.send_all(GET)
            assert (await old.receive_some(100)).startswith(b"HTTP/1.1 200 ")
            await trio.aclose_forcefully(old)
    lines = [line for line in logs if line["event"].startswith("credentials.")]
    assert [(line["event"], line["log_level"]) for line in lines] == [
        *[("credentials.invalid", "warning")] * 3,
        ("credentials.renewed", "info"),
    ]
    assert "BRIDGE_WEBHOOK_TLS_KEY_FILE" in lines[0]["error"]
    assert "webhook.tls_cert_file" in lines[3]["what"]


def _other_key(kind: trustme.KeyType = trustme.KeyType.ECDSA) -> bytes:
    return trustme.CA().issue_cert("x.test", key_type=kind).private_key_pem.bytes()


def _locked(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


@pytest.mark.parametrize(
    ("key", "cert", "reason"),
    [
        (_other_key(), None, "they don't fit each other"),
        (_other_key(trustme.KeyType.RSA), None, "they don't fit each other"),
        (b"no key", None, "one of them isn't a PEM file of its kind"),
        (None, b"no certificate", "one of them isn't a PEM file of its kind"),
        (b"", b"", "one of them isn't a PEM file of its kind"),
        (_locked(_other_key()), None, "the key has a password"),
    ],
    ids=["other key", "other kind", "no key", "no cert", "empty", "password"],
)
def test_error_names_both_settings(
    pair: _Pair, key: bytes | None, cert: bytes | None, reason: str
) -> None:
    """And what is expected of them, and nothing of the key."""
    pair.replace("first.test", key=key, cert=cert)
    with pytest.raises(ConfigError) as caught:
        pair.tls.current()
    message = str(caught.value)
    assert message.startswith(
        "webhook.tls_cert_file (BRIDGE_WEBHOOK_TLS_CERT_FILE) and "
        "webhook.tls_key_file (BRIDGE_WEBHOOK_TLS_KEY_FILE): "
    )
    assert f" can't be used, {reason}. " in message
    assert message.endswith("the key that fits it, without a password")


@pytest.mark.parametrize(("which", "name"), [("cert", "tls.crt"), ("key", "tls.key")])
def test_missing_file_is_named(pair: _Pair, which: str, name: str) -> None:
    """With its setting, and no other."""
    (pair.folder / "data" / name).unlink()
    with pytest.raises(ConfigError) as caught:
        pair.tls.current()
    assert str(caught.value) == (
        f"webhook.tls_{which}_file (BRIDGE_WEBHOOK_TLS_{which.upper()}_FILE): "
        f"{pair.folder}/data/{name} can't be read: No such file or directory"
    )
