"""
What takes dryAPI's webhooks: its port, its certificate, and the accounts' secrets.

Nothing comes in by it: the port is opened and closed again where no bridge has it, and
the certificate is shown to nobody but this process. Whether dryAPI reaches the port,
only dryAPI can tell.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

import trio

from bridge.doctor.branch import Branch, Found
from bridge.doctor.network import SOON_DAYS, days_left
from bridge.doctor.remedies import ProblemError
from bridge.errors import ListenError
from bridge.http.streams import open_socket
from bridge.http.tls import server_tls
from bridge.outbox.directory import look_at
from bridge.settings import Account, Settings, WebhookSettings


__all__ = ["walk_webhooks", "webhook_branches"]

_SETTING: Final = "webhook.listen"
_SECRET, _PORT, _TLS = "webhook.secret", "webhook.port", "webhook.tls"

_FILES: Final = (
    "webhook.tls_cert_file (BRIDGE_WEBHOOK_TLS_CERT_FILE) and webhook.tls_key_file"
    " (BRIDGE_WEBHOOK_TLS_KEY_FILE)"
)

# What dryAPI's secrets begin with.
_MARK: Final = "whsec_"

# OpenSSL's X509_V_ERR_*: not yet valid, and expired.
_NOT_NOW: Final = frozenset({9, 10})

# A handshake of TLS 1.3 takes two turns of each side, an older one three.
_MOST_TURNS: Final = 6


def webhook_branches(settings: Settings, end: float) -> list[Branch]:
    """Give the branches: of each account's secret, of the certificate, of the port."""
    webhook = settings.webhook
    if webhook.listen is None:
        return []
    silence = {
        _PORT: ProblemError("nobody tells what address it is", "See to this name's DNS")
    }
    branches = [Branch(one.client_id, [_SECRET], end) for one in _signed(settings)]
    if webhook.tls_cert_file is not None:
        branches.append(Branch(webhook.tls_cert_file, [_TLS], end))
    branches.append(Branch(webhook.listen, [_PORT], end, silence))
    return branches


async def walk_webhooks(branches: list[Branch], settings: Settings) -> None:
    """Look at all of it; nothing of it needs another part."""
    if not branches:
        return
    *secrets, port = branches
    if settings.webhook.tls_cert_file is not None:
        with secrets.pop() as branch, branch.step(_TLS) as found:
            _look_at_certificate(settings.webhook, found)
    for branch, account in zip(secrets, _signed(settings), strict=True):
        with branch, branch.step(_SECRET) as found:
            _look_at_secret(account, found)
    with port, port.step(_PORT) as found:
        await _look_at_port(port.subject, settings, found)


def _signed(settings: Settings) -> list[Account]:
    return [one for one in settings.all_accounts if one.webhook_secret is not None]


def _look_at_secret(account: Account, found: Found) -> None:
    assert account.webhook_secret is not None
    secrets = account.webhook_secret.reveal().split()
    odd = sum(not one.startswith(_MARK) for one in secrets)
    if odd:
        which = "it" if len(secrets) == 1 else f"{odd} of {len(secrets)} secrets"
        found.warn(
            f"{which} doesn't begin with {_MARK}, as dryAPI's webhook secrets do",
            "Copy it once more from dryAPI's dashboard into webhook.secret"
            " (BRIDGE_WEBHOOK_SECRET or BRIDGE_WEBHOOK_SECRET_FILE), or the account's"
            " webhook_secret_file in [[accounts]]",
        )
    elif len(secrets) == 1:
        found.detail = "one secret"
    else:
        found.detail = f"any of {len(secrets)} secrets may sign"


async def _look_at_port(listen: str, settings: Settings, found: Found) -> None:
    try:
        opened = await open_socket(listen, _SETTING)
    except ListenError as error:
        cause = error.__cause__
        in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        state = await trio.to_thread.run_sync(
            look_at, settings.outbox.dir, abandon_on_cancel=True
        )
        if not (in_use and state.is_held):
            raise
        found.detail = "in use, as it is while a bridge runs"
    else:
        opened.close()
        found.detail = "can be opened"


def _look_at_certificate(webhook: WebhookSettings, found: Found) -> None:
    """See that the files fit each other, and that the certificate is good now."""
    assert webhook.tls_cert_file is not None
    assert webhook.tls_key_file is not None
    tls = server_tls(webhook.tls_cert_file, webhook.tls_key_file)
    try:
        shown = _shown(tls.current(), webhook.tls_cert_file)
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message.rstrip(".")
        what = "is not good now" if error.verify_code in _NOT_NOW else "is no server's"
        raise ProblemError(
            f"the certificate {what}: {said}",
            f"Renew the files of {_FILES}; the bridge picks them up while it runs",
        ) from error
    days = days_left(shown)
    found.detail = f"fits its key, certificate for {days} d"
    if days is not None and days < SOON_DAYS:
        found.warn(
            f"the certificate ends in {days} d",
            f"Renew the files of {_FILES}; the bridge picks them up while it runs",
        )


def _shown(context: ssl.SSLContext, cert_file: str) -> object:
    """Shake hands with a client that trusts the file, and give what it is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Under which name dryAPI asks for it is not known here.
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cert_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MOST_TURNS):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert()
