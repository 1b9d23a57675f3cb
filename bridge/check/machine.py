"""
The steps on this machine: the outbox directory, and the port that receives webhooks.

The outbox is looked at as it is: a bridge that uses it goes on, and nothing is created.
The port is opened and closed again where no bridge has it, and the certificate is shown
only to this process. Whether dryAPI reaches the port, only dryAPI knows.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from bridge.check.server import describe_certificate
from bridge.check.step import Step, Steps
from bridge.errors import (
    DOCS_URL,
    BridgeError,
    ListenError,
    OutboxDamagedError,
    OutboxDirectoryError,
)
from bridge.http.streams import open_socket
from bridge.http.tls import ReloadingContext, certificate_fault, server_tls
from bridge.outbox.directory import DirectoryState, look_at
from bridge.outbox.quota import reserve_bytes
from bridge.outbox.survey import SurveyedOutbox, survey
from bridge.settings import Secret, Settings


__all__ = ["add_outbox", "add_webhooks"]

_DIR: Final = "outbox.dir (BRIDGE_OUTBOX_DIR, --outbox-dir)"
_DISK_HINT: Final = f"Look at the disk of {_DIR}"
_DAMAGED_HINT: Final = (
    "Copy the directory away first; the bridge's next start moves the file aside,"
    " copies what can be read of it into a new one and writes a gap (outbox_damaged):"
    f" see {DOCS_URL}/durability.md"
)
_COPY_HINT: Final = (
    "Copy it again from dryAPI's dashboard into webhook.secret (BRIDGE_WEBHOOK_SECRET"
    " or BRIDGE_WEBHOOK_SECRET_FILE), or the account's webhook_secret_file in"
    " [[accounts]]"
)
_CERTIFICATE_HINT: Final = (
    "Renew the files of webhook.tls_cert_file (BRIDGE_WEBHOOK_TLS_CERT_FILE) and"
    " webhook.tls_key_file (BRIDGE_WEBHOOK_TLS_KEY_FILE); the bridge picks them up"
    " while it runs"
)

_PORT_HINT: Final = "See that this machine's DNS knows the name"

# An outbox of 1 GB is read within 2 s.
_READ_SECONDS: Final = 3.0

# File systems that a restart of the machine empties.
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})

# The first characters of dryAPI's secrets.
_MARK: Final = "whsec_"

# A handshake of TLS 1.3 takes two turns of each side, an older one three.
_MAX_TURNS: Final = 6


# -- The outbox ----------------------------------------------------------------


def add_outbox(steps: Steps, settings: Settings) -> Step[SurveyedOutbox | None]:
    """Add the directory, the file and the disk; gives the step of the file."""
    path = settings.outbox.dir
    subject = str(path)

    @steps.step("outbox.directory", subject, _DISK_HINT)
    async def directory(step: Step[DirectoryState]) -> DirectoryState:
        ask = partial(look_at, path)
        state = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        _describe(state, step)
        return state

    seconds = _READ_SECONDS + 1

    @steps.step("outbox.file", subject, _DISK_HINT, needs=[directory], seconds=seconds)
    async def file(step: Step[SurveyedOutbox | None]) -> SurveyedOutbox | None:
        is_held = directory.value.is_held
        ask = partial(survey, path, _READ_SECONDS, is_held=is_held)
        try:
            found = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except OutboxDamagedError as error:
            raise OutboxDamagedError(error.message, hint=_DAMAGED_HINT) from error
        _describe_file(found, step)
        return found

    @steps.step("outbox.space", subject, _DISK_HINT, needs=[file])
    async def _(step: Step[None]) -> None:
        used = file.value.size_bytes if file.value else 0
        _describe_space(directory.value, used, settings.outbox.max_bytes, step)

    return file


def _describe(state: DirectoryState, step: Step[Any]) -> None:
    on = "" if state.file_system is None else f", on {state.file_system}"
    if state.is_held:
        who = "a process" if state.holder is None else f"process {state.holder}"
        step.detail = (
            f"in use by {who}, as it is while a bridge runs; a second one could not"
            f" start with it{on}"
        )
    elif state.exists:
        step.detail = f"can be written{on}"
    else:
        step.detail = f"doesn't exist yet; the bridge can create it{on}"
    if state.file_system in _IN_MEMORY:
        step.warn(
            f"lies in memory ({state.file_system}): what waits there for Kafka is lost"
            " when the machine or the pod goes",
            f"Set {_DIR} to a disk that stays",
        )


def _describe_file(outbox: SurveyedOutbox | None, step: Step[Any]) -> None:
    if outbox is None:
        step.detail = "there is none yet"
        return
    waiting = sum(one.waiting for one in outbox.partitions)
    unsendable = sum(len(one.unsendable) for one in outbox.partitions)
    whole = "whole" if outbox.is_read else "readable"
    step.detail = f"{whole}; {waiting:,} rows wait for Kafka"
    if unsendable:
        step.warn(
            f"{unsendable:,} rows can't be sent: neither their topic nor the"
            " dead-letter topic took them",
            f"See {DOCS_URL}/durability.md for what to do about them",
        )


def _describe_space(
    state: DirectoryState, used: int, most: int, step: Step[Any]
) -> None:
    free, reserve = state.free_bytes, reserve_bytes(state.total_bytes)
    if free <= reserve:
        raise OutboxDirectoryError(
            f"{_size(free)} are free, and {_size(reserve)} are kept for"
            " acknowledgements: no event would be accepted",
            hint=f"Make room on the disk, or set {_DIR} to another one",
        )
    if used + free >= most:
        step.detail = f"{_size(free)} free, outbox.max_bytes is {_size(most)}"
        return
    step.warn(
        f"{_size(free)} are free, less than the {_size(most)} of outbox.max_bytes: the"
        " outbox covers a shorter outage of Kafka than that says",
        "Give it a larger disk, or lower outbox.max_bytes (BRIDGE_OUTBOX_MAX_BYTES)",
    )


def _size(count: int) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


# -- Webhooks ------------------------------------------------------------------


def add_webhooks(steps: Steps, settings: Settings) -> None:
    """Add each account's secret, the certificate and the port, if there is one."""
    webhook = settings.webhook
    if webhook.listen is None:
        return
    for account in settings.all_accounts:
        if account.webhook_secret is not None:
            look: Any = partial(_check_secret, account.webhook_secret)
            steps.step("webhook.secret", account.client_id, _COPY_HINT)(look)
    if webhook.tls_cert_file is not None and webhook.tls_key_file is not None:
        ask = partial(server_tls, webhook.tls_cert_file, webhook.tls_key_file)
        look = partial(_check_certificate, ask)
        steps.step("webhook.tls", webhook.tls_cert_file, _CERTIFICATE_HINT)(look)
    look = partial(_check_port, settings)
    steps.step("webhook.port", webhook.listen, _PORT_HINT)(look)


async def _check_secret(secret: Secret, step: Step[None]) -> None:
    secrets = secret.reveal().split()
    odd = sum(not one.startswith(_MARK) for one in secrets)
    if odd:
        which = "it" if len(secrets) == 1 else f"{odd} of {len(secrets)} secrets"
        step.warn(f"{which} doesn't start with {_MARK}, as dryAPI's webhook secrets do")
    elif len(secrets) == 1:
        step.detail = "one secret"
    else:
        step.detail = f"any of {len(secrets)} secrets may sign"


async def _check_certificate(
    ask: Callable[[], ReloadingContext], step: Step[None]
) -> None:
    """See that the files fit each other, and that the certificate is valid now."""
    try:
        certificate = _shown(ask().current(), step.subject)
    except ssl.SSLCertVerificationError as error:
        fault, _ = certificate_fault(error, "", "")
        raise BridgeError(f"the certificate {fault}") from error
    describe_certificate("fits its key", certificate, step.hint, step)


async def _check_port(settings: Settings, step: Step[None]) -> None:
    try:
        opened = await open_socket(step.subject, "webhook.listen")
    except ListenError as error:
        cause = error.__cause__
        in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        ask = partial(look_at, settings.outbox.dir)
        state = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        if not (in_use and state.is_held):
            raise
        step.detail = "in use, as it is while a bridge runs"
    else:
        opened.close()
        step.detail = "can be opened"


def _shown(context: ssl.SSLContext, cert_file: str) -> Any:
    """Shake hands with a client that trusts the file, and give what it is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Under which name dryAPI asks for it is not known here.
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cert_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MAX_TURNS):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert()
