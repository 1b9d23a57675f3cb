"""Ways to put a fault in, for real: into a server, a certificate, a right, a file."""

from __future__ import annotations

import socket
import sqlite3  # noqa: TID251 - makes outboxes that are none
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from email.utils import formatdate
from pathlib import Path

import trio
from confluent_kafka.admin import AclOperation

from bridge.outbox import OutboxDirectory
from bridge.outbox.database import FORMAT_VERSION
from tests.check.ground import RIGHTS, ROLES, Changes, Ground, variables
from tests.kit.dryapi import AUTH, STATUS
from tests.kit.process import free_ports
from tests.kit.publisher import App, Soketi
from tests.kit.scripted import Peer
from tests.kit.secure_kafka import SecureKafka
from tests.outbox.making import append, numbered, opened
from tests.schemas.scripted import Reply, ScriptedRegistry, failure


Make = Callable[[Ground], Changes]

PUSHER, API = "BRIDGE_PUSHER_URL", "BRIDGE_API_URL"
SERVERS = "BRIDGE_KAFKA_BOOTSTRAP_SERVERS"
NO_SUBJECT = failure(404, 40401, "Subject not found.")

_JSON = {"Content-Type": "application/json"}


def given(**changes: str | None) -> Make:
    """Set variables, by the end of their names."""
    return lambda _: {f"BRIDGE_{name}": value for name, value in changes.items()}


# -- Ports without an answer -----------------------------------------------------


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port where nothing listens."""
    yield free_ports(1)[0]


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """Give a port where packets are lost: its queue is full, and never emptied."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        # One fills the queue of length 0, the next ones see to it.
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def at(
    variable: str, form: str, port: Callable[[], AbstractContextManager[int]]
) -> Make:
    """Lead to one of these ports."""
    return lambda ground: {variable: form.format(ground.stack.enter_context(port()))}


# -- dryAPI ------------------------------------------------------------


def no_certificate(ground: Ground) -> Changes:
    """Have a text for the file of whom to trust."""
    file = ground.folder / "ca.pem"
    file.write_text("no certificate")
    return {"BRIDGE_PUSHER_CA_FILE": str(file)}


def at_api(variable: str, form: str) -> Make:
    """Have dryAPI, which speaks HTTP, where another server is meant to be."""
    return lambda ground: {variable: form.format(ground.api.port)}


def over_tls(
    variable: str,
    scheme: str,
    name: str = "127.0.0.1",
    *,
    days: int = 30,
    trusted: bool = True,
) -> Make:
    """Have a server show a certificate."""

    def make(ground: Ground) -> Changes:
        authority = ground.servers.authority
        identity = authority.identity(f"of-{variable}-{days}", name, days=days)
        file = str(authority.file) if trusted else None
        url = f"{scheme}://127.0.0.1:{ground.tls_port(identity)}"
        return {variable: url, "BRIDGE_PUSHER_CA_FILE": file}

    return make


def status(code: int) -> Make:
    """Have the auth endpoint answer with a status."""
    return lambda ground: ground.answering(AUTH, status=code, headers=_JSON, body="{}")


def of_job(code: int, headers: Mapping[str, str] | None = None) -> Make:
    """Have the status endpoint answer so about a job."""
    body = '{"data": {"status": "done"}}'
    headers = {**_JSON, **(headers or {})}
    return lambda ground: ground.answering(
        STATUS, status=code, headers=headers, body=body
    )


def thinking(path: str) -> Make:
    """Have an endpoint that takes the request and never answers."""
    return lambda ground: ground.answering(path, status=200, delay_seconds=60)


def login_page(ground: Ground) -> Changes:
    """Have a page for people answer."""
    page = "<html>canary-of-a-page</html>"
    kind = {"Content-Type": "text/html"}
    return ground.answering(AUTH, status=200, headers=kind, body=page)


def signed_by_another(ground: Ground) -> Changes:
    """Have signatures made with the secret of another deployment."""
    soketi = ground.servers.soketi
    app = App(soketi.app.id, soketi.app.key, "another-secret")
    return {API: ground.dryapi(soketi=Soketi(soketi.url, app)).url}


def skewed(seconds: float | None) -> Make:
    """Have dryAPI's clock ahead of ours; None for answers without a valid time."""

    def make(ground: Ground) -> Changes:
        # The table is made long before a test's turn comes.
        now = time.time()
        date = "no date" if seconds is None else formatdate(now + seconds, usegmt=True)
        return ground.answering("/", headers={"Date": date})

    return make


# -- What a Pusher server does after the upgrade --------------------------------------


async def say_nothing(_: Peer) -> None:
    """Forget the greeting."""
    await trio.sleep_forever()


async def only_complain(peer: Peer) -> None:
    """Say that there are too many connections, and leave it at that."""
    await peer.complain(4100, "Over capacity")
    await trio.sleep_forever()


async def begin_with_something_else(peer: Peer) -> None:
    """Answer a ping that was never sent."""
    await peer.say("pusher:pong", data={})
    await trio.sleep_forever()


async def forget_the_subscription(peer: Peer) -> None:
    """Greet, and never answer."""
    await peer.establish()
    await trio.sleep_forever()


async def refuse_the_connection(peer: Peer) -> None:
    """Take the subscription for a reason to end."""
    await peer.establish()
    await peer.read()
    await peer.complain(4009, "Connection not authorized")
    await peer.close(4009)


async def break_down(peer: Peer) -> None:
    """Greet, and be gone."""
    await peer.establish()
    await peer.read()
    await peer.stream.aclose()


# -- Kafka ------------------------------------------------------------


def openly(ground: Ground) -> Changes:
    """Don't sign in."""
    names = ("SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD")
    gone = dict.fromkeys((f"BRIDGE_KAFKA_{name}" for name in names), None)
    return {"BRIDGE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", **gone}


def topics(
    *,
    configs: Mapping[str, Mapping[str, str]] | None = None,
    rights: Mapping[str, Iterable[AclOperation]] | None = None,
    missing: Iterable[str] = (),
) -> Make:
    """Have topics of their own, some of which are not as they should be."""
    return lambda ground: ground.make_topics(
        ground.servers.guarded, configs=configs, rights=rights, missing=missing
    )


def config(role: str, name: str, value: str) -> Make:
    """Have a topic with a configuration of its own."""
    return topics(configs={role: {name: value}})


def without(role: str, *lacking: AclOperation) -> Make:
    """Revoke permissions on a topic; Read and Write include Describe."""
    return topics(rights={role: [one for one in RIGHTS if one not in lacking]})


def uncreated(ground: Ground) -> Changes:
    """Let the bridge create a topic, for which it has no right."""
    names = ground.make_topics(ground.servers.guarded, missing=["gaps"])
    return {**names, "BRIDGE_KAFKA_CREATE_TOPICS": "true"}


def registry(reply: Reply) -> Make:
    """Have a registry that gives one answer."""

    def make(ground: Ground) -> Changes:
        server = ScriptedRegistry(lambda _: reply)
        url = ground.stack.enter_context(server.serving()).url
        return {"BRIDGE_SCHEMA_REGISTRY_URL": url}

    return make


# -- Signing in ------------------------------------------------------------


Change = Callable[[SecureKafka], Mapping[str, str | None]]


def signing_in(
    listener: str,
    change: Change = lambda _: {},
    *,
    mechanism: str | None = None,
    **changes: str | None,
) -> Make:
    """Use a listener of the broker that demands it, with something changed."""

    def make(ground: Ground) -> Changes:
        secure, mark = ground.servers.secure, uuid.uuid4().hex[:12]
        names = {variable: f"{role}-{mark}" for role, variable in ROLES.items()}
        for name in names.values():
            secure.create_topic(name, 1)
        gone = {name: None for name in ground.environ if "_KAFKA_" in name}
        settings = variables(secure.settings(listener, mechanism))
        own = {f"BRIDGE_KAFKA_{x}": y for x, y in {**change(secure), **changes}.items()}
        return {**names, **gone, **settings, **own}

    return make


def stranger(secure: SecureKafka) -> Mapping[str, str | None]:
    """Trust another CA."""
    return {"SSL_CA_FILE": str(secure.stranger.file)}


def no_authority(secure: SecureKafka) -> Mapping[str, str | None]:
    """Have a key where the file of whom to trust should be."""
    return {"SSL_CA_FILE": str(secure.authority.identity("x", "x").key)}


def own_certificate(days: int) -> Change:
    """Show a certificate that the broker may not trust, or not any more."""

    def make(secure: SecureKafka) -> Mapping[str, str | None]:
        by = secure.stranger if days > 0 else secure.authority
        identity = by.identity(f"client-{days}", "bridge.example", days=days)
        return {
            "SSL_CERT_FILE": str(identity.certificate),
            "SSL_KEY_FILE": str(identity.key),
        }

    return make


def wrong_audience(secure: SecureKafka) -> Mapping[str, str | None]:
    """Have tokens for another service given out."""
    secure.provider.audience = "another-audience"
    return {}


# -- This machine ------------------------------------------------------------


def filled(ground: Ground) -> Path:
    """Make an outbox with some rows, and give its file."""
    folder = ground.folder / "outbox"
    folder.mkdir()
    with opened(folder) as outbox:
        append(outbox, numbered(0, 3_000))
    return OutboxDirectory(folder).database


def damaged(ground: Ground) -> Changes:
    """Overwrite a page in the middle of the file."""
    path = filled(ground)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    return {}


def newer(ground: Ground) -> Changes:
    """Let a newer version have written the file."""
    _execute(filled(ground), f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    return {}


def foreign(ground: Ground) -> Changes:
    """Have another program's database in its place."""
    folder = ground.folder / "outbox"
    folder.mkdir()
    path = OutboxDirectory(folder).database
    _execute(path, "CREATE TABLE shopping (item TEXT)")
    return {}


def _execute(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def no_directory(ground: Ground) -> Changes:
    """Have a file where the directory should be."""
    (ground.folder / "outbox").write_text("in the way")
    return {}


def webhooks(
    secret: str = "whsec_canary-1 whsec_canary-2",  # noqa: S107 - no secret
    **changes: str,
) -> dict[str, str]:
    """Take webhooks on a port that the system chooses."""
    return {
        "BRIDGE_WEBHOOK_LISTEN": "127.0.0.1:0",
        "BRIDGE_WEBHOOK_SECRET": secret,
        **{f"BRIDGE_WEBHOOK_{name}": value for name, value in changes.items()},
    }


def taken_port(ground: Ground) -> Changes:
    """Let another process have the port."""
    port = ground.stack.enter_context(deaf_port())
    return webhooks(LISTEN=f"127.0.0.1:{port}")


def shown(*, days: int = 30, key_of_another: bool = False) -> Make:
    """End TLS with a certificate."""

    def make(ground: Ground) -> Changes:
        authority = ground.servers.authority
        identity = authority.identity(f"hooks-{days}", "hooks.example", days=days)
        other = authority.identity("other-hooks", "hooks.example")
        key = other.key if key_of_another else identity.key
        return webhooks(TLS_CERT_FILE=str(identity.certificate), TLS_KEY_FILE=str(key))

    return make
