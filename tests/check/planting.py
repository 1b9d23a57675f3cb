"""Ways to put a fault in, for real: into a server, a certificate, a right, a file."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - makes outboxes that are none
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from email.utils import formatdate
from pathlib import Path

from confluent_kafka.admin import AclOperation

from bridge.outbox import OutboxDirectory
from bridge.outbox.database import FORMAT_VERSION
from tests.check.ground import RIGHTS, Ground
from tests.check.holes import deaf_port
from tests.kit.dryapi import AUTH, STATUS
from tests.kit.publisher import App, Soketi
from tests.outbox.making import append, numbered, opened
from tests.registry.scripted import Reply, ScriptedRegistry, failure


# Variables that are others than those of a bridge that works; None for one that goes.
Changes = Mapping[str, str | None]
Make = Callable[[Ground], Changes]


def given(**changes: str) -> Make:
    """Set variables, by the end of their names."""
    return lambda _: {f"BRIDGE_{name}": value for name, value in changes.items()}


def no_certificate(ground: Ground) -> Changes:
    """Have a text for the file of whom to trust."""
    file = ground.folder / "ca.pem"
    file.write_text("no certificate")
    return {"BRIDGE_PUSHER_CA_FILE": str(file)}


_JSON = {"Content-Type": "application/json"}


def status(code: int) -> Make:
    """Have the auth endpoint answer with a status."""
    return lambda ground: ground.answering(AUTH, status=code, headers=_JSON, body="{}")


def of_job(code: int, headers: Mapping[str, str] | None = None) -> Make:
    """Have the status endpoint answer so about a job."""
    body = '{"data": {"status": "done"}}'
    return lambda ground: ground.answering(
        STATUS, status=code, headers={**_JSON, **(headers or {})}, body=body
    )


def thinking(path: str) -> Make:
    """Have an endpoint that takes the request and thinks."""
    return lambda ground: ground.answering(path, status=200, delay_seconds=60)


def silent(
    variable: str,
    form: str,
    port: Callable[[], AbstractContextManager[int]] = deaf_port,
) -> Make:
    """Lead to a port without an answer."""
    return lambda ground: {variable: form.format(ground.stack.enter_context(port()))}


def login_page(ground: Ground) -> Changes:
    """Have a page for people answer."""
    page = "<html>canary-of-a-page</html>"
    kind = {"Content-Type": "text/html"}
    return ground.answering(AUTH, status=200, headers=kind, body=page)


def signed_by_another(ground: Ground) -> Changes:
    """Have signatures made with the secret of another deployment."""
    app = App(ground.soketi.app.id, ground.soketi.app.key, "another-secret")
    other = ground.dryapi(soketi=Soketi(ground.soketi.url, app))
    return {"BRIDGE_API_URL": other.url}


def skewed(seconds: float | None) -> Make:
    """Have dryAPI's clock ahead of ours; None for answers without a valid time."""

    def make(ground: Ground) -> Changes:
        # The table is made long before a test's turn comes.
        now = time.time()
        date = "no date" if seconds is None else formatdate(now + seconds, usegmt=True)
        return ground.answering("/", headers={"Date": date})

    return make


def over_tls(
    variable: str,
    scheme: str,
    host: str,
    *names: str,
    days: int = 30,
    trusted: bool = True,
) -> Make:
    """Have a server show a certificate."""

    def make(ground: Ground) -> Changes:
        identity = ground.authority.identity(f"of-{variable}-{days}", *names, days=days)
        changes: dict[str, str | None] = {
            variable: f"{scheme}://{host}:{ground.tls_port(identity)}"
        }
        if trusted:
            changes["BRIDGE_PUSHER_CA_FILE"] = str(ground.authority.file)
        return changes

    return make


def no_tls(variable: str, scheme: str) -> Make:
    """Ask a server for TLS that has none."""
    return lambda ground: {variable: f"{scheme}://127.0.0.1:{ground.api.port}"}


def web_server(variable: str, form: str) -> Make:
    """Have a web server where another one is meant to be."""
    return lambda ground: {variable: form.format(ground.api.port)}


def topics(
    *,
    configs: Mapping[str, Mapping[str, str]] | None = None,
    rights: Mapping[str, Iterable[AclOperation]] | None = None,
    missing: Iterable[str] = (),
) -> Make:
    """Have topics of their own, some of which are not as they should be."""
    return lambda ground: ground.make_topics(
        ground.guarded, configs=configs, rights=rights, missing=missing
    )


def without(role: str, *lacking: AclOperation) -> Make:
    """Take rights on a topic away; reading and writing bring the right to describe."""
    return topics(rights={role: [one for one in RIGHTS if one not in lacking]})


def transactional(ground: Ground) -> Changes:
    """Write transactionally, which takes a right of its own."""
    return {"BRIDGE_DELIVERY": "transactional"}


def uncreated(ground: Ground) -> Changes:
    """Let the bridge create a topic, for which it has no right."""
    names = ground.make_topics(ground.guarded, missing=["gaps"])
    return {**names, "BRIDGE_KAFKA_CREATE_TOPICS": "true"}


def filled(ground: Ground) -> Path:
    """Make an outbox with some rows, and give its file."""
    folder = Path(ground.environ["BRIDGE_OUTBOX_DIR"])
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
    with sqlite3.connect(filled(ground)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    connection.close()
    return {}


def foreign(ground: Ground) -> Changes:
    """Have somebody else's database in its place."""
    folder = Path(ground.environ["BRIDGE_OUTBOX_DIR"])
    folder.mkdir()
    with sqlite3.connect(OutboxDirectory(folder).database) as connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")
    connection.close()
    return {}


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
    """Let somebody else have the port."""
    port = ground.stack.enter_context(deaf_port())
    return webhooks(LISTEN=f"127.0.0.1:{port}")


def shown(*, days: int = 30, key_of_another: bool = False) -> Make:
    """End TLS with a certificate."""

    def make(ground: Ground) -> Changes:
        identity = ground.authority.identity(
            f"hooks-{days}", "hooks.example", days=days
        )
        other = ground.authority.identity("other-hooks", "hooks.example")
        key = other.key if key_of_another else identity.key
        return webhooks(TLS_CERT_FILE=str(identity.certificate), TLS_KEY_FILE=str(key))

    return make


def registry(reply: Reply) -> Make:
    """Have a registry that gives one answer."""

    def make(ground: Ground) -> Changes:
        server = ScriptedRegistry(lambda _: reply)
        url = ground.stack.enter_context(server.serving()).url
        return {"BRIDGE_SCHEMA_REGISTRY_URL": url}

    return make


NO_SUBJECT = failure(404, 40401, "Subject not found.")
