"""Tests of TLS that ends at the port, and of certificates that are exchanged."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, replace
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
    descriptors,
    served,
    trickle,
    until_end,
)


@dataclass(frozen=True)
class _Pair:
    """A certificate's files, in a folder that is exchanged as Kubernetes does it."""

    folder: Path
    authority: trustme.CA

    @property
    def tls(self) -> ReloadingContext:
        data = self.folder / "data"
        return server_tls(str(data / "tls.crt"), str(data / "tls.key"))

    def exchange(
        self, name: str, *, key: bytes | None = None, cert: bytes | None = None
    ) -> None:
        """Put a new pair in place, for a host name; or what is no pair."""
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

    async def shaken_hands(
        self, port: int, context: ssl.SSLContext | None = None
    ) -> trio.SSLStream[trio.SocketStream]:
        """Connect, and trust nobody else."""
        stream = trio.SSLStream(
            await connected(port),
            context or self.context(),
            server_hostname="127.0.0.1",
            https_compatible=True,
        )
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def name_shown(self, port: int) -> str:
        """Tell for which host the certificate of a new handshake is."""
        stream = await self.shaken_hands(port)
        shown = stream.getpeercert()
        await stream.aclose()
        return str(dict(shown["subjectAltName"])["DNS"])


@pytest.fixture
def pair(tmp_path: Path) -> _Pair:
    """A pair for the name `first.test`."""
    made = _Pair(tmp_path, trustme.CA())
    made.exchange("first.test")
    return made


async def test_good_client_is_answered(pair: _Pair) -> None:
    """A client that trusts the authority speaks HTTP/1.1 over TLS."""
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


async def test_application_may_give_up_a_body(pair: _Pair) -> None:
    """A wait that is cancelled leaves the stream whole: its answer comes."""
    head = b"POST /give-up HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n"
    async with served(tls=pair.tls) as port:
        stream = await pair.shaken_hands(port)
        await stream.send_all(head + b"begun")
        answer, seconds = await until_end(stream)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"too slow")
        # A moment longer, in which it is read.
        assert seconds < 1 + PATIENCE_SECONDS
        await trio.aclose_forcefully(stream)


async def test_application_knows_of_tls(pair: _Pair) -> None:
    """Addresses that it makes begin with https."""
    async with (
        served(tls=pair.tls) as port,
        httpx.AsyncClient(verify=pair.context(), trust_env=False) as client,
    ):
        answer = await client.get(f"https://127.0.0.1:{port}/work/1/")
        assert answer.headers["location"].startswith("https://")


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"], []])
async def test_http_1_1_is_all_that_is_spoken(pair: _Pair, offered: list[str]) -> None:
    """Who offers both gets it; who knows nothing else has no luck."""
    context = pair.context()
    if offered:
        context.set_alpn_protocols(offered)
    async with served(tls=pair.tls) as port:
        stream = await pair.shaken_hands(port, context)
        expected = "http/1.1" if "http/1.1" in offered else None
        assert stream.selected_alpn_protocol() == expected
        await stream.aclose()


def test_older_versions_are_refused(pair: _Pair) -> None:
    """1.2 and 1.3 are left, whatever OpenSSL allows; no handshake is repeated."""
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
        seconds = trio.current_time() - begun
        assert (
            BRIEF.handshake_seconds - 0.1
            < seconds
            < BRIEF.handshake_seconds + PATIENCE_SECONDS
        )
        await stream.aclose()


@pytest.mark.parametrize("sent", [GET, b"\x00" * 100, b"\x16\x03\x01\x00\x02\x01\x00"])
async def test_what_is_no_tls_ends_at_once(pair: _Pair, sent: bytes) -> None:
    """Plain HTTP on the port is not answered."""
    async with served(tls=pair.tls) as port:
        stream = await connected(port)
        await stream.send_all(sent)
        await stream.send_eof()
        with trio.fail_after(PATIENCE_SECONDS):
            answer, _ = await until_end(stream)
        assert b"HTTP" not in answer
        await stream.aclose()


async def test_bad_clients_end_behind_tls(pair: _Pair) -> None:
    """Idle, in the head, in the body or not reading: deadlines are the same."""
    firsts = (
        b"",
        b"POST / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n",
        GET,
        GET.replace(b"/", b"/flood", 1),
    )
    # A handshake is work, which a busy machine needs time for.
    limits = replace(BRIEF, handshake_seconds=10)
    before = descriptors()
    async with served(limits, pair.tls) as port:
        serving = descriptors()
        streams = [await pair.shaken_hands(port) for _ in firsts]
        for stream, first in zip(streams, firsts, strict=True):
            await stream.send_all(first)
        with trio.fail_after(2 * BRIEF.head_seconds + PATIENCE_SECONDS):
            # The ports' ends are gone; the clients' are not.
            while descriptors() > serving + len(streams):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.02)
        for stream in streams:
            await trio.aclose_forcefully(stream)
    assert descriptors() <= before + 1


async def test_exchanged_pair_is_shown_to_new_handshakes(pair: _Pair) -> None:
    """Connections that stand go on, the next one gets the new certificate."""
    with structlog.testing.capture_logs() as logs:
        async with served(tls=pair.tls) as port:
            old = await pair.shaken_hands(port)
            assert await pair.name_shown(port) == "first.test"
            pair.exchange("second.test")
            assert await pair.name_shown(port) == "second.test"
            assert await pair.name_shown(port) == "second.test"
            await old.send_all(GET)
            assert (await old.receive_some(100)).startswith(b"HTTP/1.1 200 ")
            await trio.aclose_forcefully(old)
    told = [line for line in logs if line["event"].startswith("credentials.")]
    assert [line["event"] for line in told] == ["credentials.renewed"]
    assert "webhook.tls_cert_file" in told[0]["what"]


async def test_bad_exchange_leaves_the_pair_of_before(pair: _Pair) -> None:
    """It is told once, and a good one afterwards is taken."""
    with structlog.testing.capture_logs() as logs:
        async with served(tls=pair.tls) as port:
            # One pair's certificate with another's key, as between two copies.
            pair.exchange("second.test", key=_other_key())
            assert await pair.name_shown(port) == "first.test"
            assert await pair.name_shown(port) == "first.test"
            (pair.folder / "data" / "tls.key").unlink()
            assert await pair.name_shown(port) == "first.test"
            os.mkfifo(pair.folder / "data" / "tls.key")
            assert await pair.name_shown(port) == "first.test"
            (pair.folder / "data" / "tls.key").unlink()
            pair.exchange("third.test")
            assert await pair.name_shown(port) == "third.test"
    told = [line for line in logs if line["event"].startswith("credentials.")]
    events = [(line["event"], line["log_level"]) for line in told]
    assert events == [
        ("credentials.invalid", "warning"),
        ("credentials.invalid", "warning"),
        ("credentials.invalid", "warning"),
        ("credentials.renewed", "info"),
    ]
    assert "BRIDGE_WEBHOOK_TLS_KEY_FILE" in told[0]["error"]


def _other_key() -> bytes:
    return trustme.CA().issue_cert("other.test").private_key_pem.bytes()


def _key_of_another_kind() -> bytes:
    issued = trustme.CA().issue_cert("other.test", key_type=trustme.KeyType.RSA)
    return issued.private_key_pem.bytes()


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
        (_key_of_another_kind(), None, "they don't fit each other"),
        (b"no key", None, "one of them is no PEM file of its kind"),
        (None, b"no certificate", "one of them is no PEM file of its kind"),
        (b"", b"", "one of them is no PEM file of its kind"),
        (_locked(_other_key()), None, "the key has a password"),
    ],
    ids=[
        "another's key",
        "of another kind",
        "no key",
        "no certificate",
        "empty",
        "with a password",
    ],
)
def test_pair_that_does_not_fit_is_one_clear_sentence(
    pair: _Pair, key: bytes | None, cert: bytes | None, reason: str
) -> None:
    """Both settings are named, what is expected of them, and nothing of the key."""
    pair.exchange("first.test", key=key, cert=cert)
    with pytest.raises(ConfigError) as caught:
        pair.tls.current()
    said = str(caught.value)
    assert said.startswith("webhook.tls_cert_file (BRIDGE_WEBHOOK_TLS_CERT_FILE) and ")
    assert "webhook.tls_key_file (BRIDGE_WEBHOOK_TLS_KEY_FILE): " in said
    assert f" can't be used, {reason}. " in said
    assert said.endswith("the key that fits it, without a password")


@pytest.mark.parametrize("which", ["cert", "key"])
def test_file_that_is_not_there_is_named(pair: _Pair, which: str) -> None:
    """The one that can't be read is, with its setting, and no other."""
    name = {"cert": "tls.crt", "key": "tls.key"}[which]
    (pair.folder / "data" / name).unlink()
    with pytest.raises(ConfigError) as caught:
        pair.tls.current()
    assert str(caught.value) == (
        f"webhook.tls_{which}_file (BRIDGE_WEBHOOK_TLS_{which.upper()}_FILE): "
        f"{pair.folder}/data/{name} can't be read: No such file or directory"
    )
