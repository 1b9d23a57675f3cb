"""
The application that receives dryAPI's webhooks.

It answers 2xx only if the webhook is synced to disk, or needs no record. Any other
response is a bare status, so that a forger learns nothing from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing
from typing import Annotated, Final

import msgspec
import structlog
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.errors import OutboxError
from bridge.events.record import Record
from bridge.gaps.holding import Holding
from bridge.gaps.webhook import Event, Outcome, Webhook, read, signature_of
from bridge.metric import counter, gauge
from bridge.settings import Secret


__all__ = ["Receiver", "Recipient", "WebhookStatistics"]

_log = structlog.get_logger("bridge.gaps")

_PATH: Final = "/webhooks/dryapi"

# dryAPI waits for ten seconds, of which two are for the network. It would repeat a
# webhook that is answered later.
_ANSWER_SECONDS: Final = 8.0
# dryAPI's own first wait; it may not read this header.
_RETRY_AFTER_SECONDS: Final = 60

# Of a path or an event's name, which may be of any length.
_MAX_LOGGED: Final = 100


class WebhookStatistics:
    """Counts since the start; each account and label has a zero."""

    deliveries: Annotated[
        dict[tuple[str, Outcome], int],
        counter(
            "bridge_webhook_deliveries",
            "Answered webhook requests, by outcome.",
            "client_id",
            "outcome",
        ),
    ]
    events: Annotated[
        dict[tuple[str, Event], int],
        counter(
            "bridge_webhook_jobs",
            "Genuine webhooks without repeats, by event.",
            "client_id",
            "event",
        ),
    ]
    unknown_account: Annotated[
        int, counter("bridge_webhook_unknown_account", "Webhooks of unknown accounts.")
    ]
    last_terminal_at_us: Annotated[
        dict[str, int | None],
        gauge(
            "bridge_webhook_last_terminal_timestamp_seconds",
            "When the last webhook of a job's end was received, since the epoch; absent"
            " before the first.",
            "client_id",
            divisor=1_000_000,
        ),
    ]

    # The same object as that of `Holding`.
    released: Annotated[
        dict[str, int],
        counter(
            "bridge_webhook_released",
            "Held webhooks that were released, by whether they were still needed.",
            "result",
        ),
    ]

    def __init__(self, client_ids: Sequence[str], released: dict[str, int]) -> None:
        self.released = released
        self.deliveries = {
            (who, outcome): 0 for who in client_ids for outcome in Outcome
        }
        self.events = {(who, event): 0 for who in client_ids for event in Event}
        self.unknown_account = 0
        self.last_terminal_at_us = dict.fromkeys(client_ids)


class Recipient(msgspec.Struct, frozen=True):
    """
    An account whose webhooks are received.

    Attributes:
        client_id: Its client id.
        secret: Its webhook secrets, with blanks between them.
        make: Makes the record of an event, received at a time in microseconds.
    """

    client_id: str
    secret: Secret
    make: Callable[[bytes, int], Record]


class Receiver:
    """
    Answers the webhooks of all accounts.

    Args:
        recipients: The accounts.
        holding: Writes webhooks to disk.
        max_body_bytes: The largest body.
        is_single: Whether there is one account, with the path `/webhooks/dryapi`. Each
            of several has its client id below it.
        now_ns: The wall clock for timestamps, nanoseconds since the epoch.

    Attributes:
        statistics: The counts so far.
        app: The ASGI application.
    """

    def __init__(
        self,
        recipients: Sequence[Recipient],
        holding: Holding,
        *,
        max_body_bytes: int,
        is_single: bool,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        client_ids = [one.client_id for one in recipients]
        self.statistics = WebhookStatistics(client_ids, holding.released)
        self._recipients: dict[str | None, Recipient] = {
            None if is_single else one.client_id: one for one in recipients
        }
        self._paths = (
            f"the account's path is {_PATH}"
            if is_single
            else f"each account's path is {_PATH}/{{client_id}}, if it has a webhook"
            " secret"
        )
        self._holding = holding
        self._max_body_bytes = max_body_bytes
        self._now_ns = now_ns
        paths = (_PATH, f"{_PATH}/{{client_id}}")
        self.app = Starlette(
            routes=[Route(path, self._answer, methods=["POST"]) for path in paths],
            exception_handlers={404: self._not_found},
        )
        # dryAPI follows no redirects.
        self.app.router.redirect_slashes = False

    async def _answer(self, request: Request) -> Response:
        recipient = self._recipients.get(request.path_params.get("client_id"))
        if recipient is None:
            raise HTTPException(404)
        client_id = recipient.client_id
        outcome = await self._outcome(request, recipient)
        self.statistics.deliveries[client_id, outcome] += 1
        if outcome.status == 200:
            content = msgspec.json.encode({"status": outcome.value})
            return Response(content, media_type="application/json")
        if outcome is Outcome.UNAVAILABLE:
            headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
            return Response(status_code=outcome.status, headers=headers)
        hint = {"hint": outcome.hint} if outcome.hint else {}
        _log.warning(
            "webhook.refused", client_id=client_id, reason=str(outcome), **hint
        )
        return Response(status_code=outcome.status)

    async def _not_found(self, request: Request, _: Exception) -> Response:
        if request.method == "POST":
            self.statistics.unknown_account += 1
            # `request.url` would raise for some Host headers.
            path = request.scope["path"][:_MAX_LOGGED]
            _log.warning(
                "webhook.refused", reason="unknown_account", path=path, hint=self._paths
            )
        return Response(status_code=404)

    async def _outcome(self, request: Request, recipient: Recipient) -> Outcome:
        """Verify a request and keep its content."""
        started_at = trio.current_time()
        # Checked before the body is read, so that an unsigned request costs little.
        signature = signature_of(request.scope["headers"])
        if isinstance(signature, Outcome):
            return signature
        body = await self._body(request)
        if isinstance(body, Outcome):
            return body
        now_us = self._now_ns() // 1000
        error = signature.error(body, recipient.secret, now_us / 1_000_000)
        if error is not None:
            return error
        webhook = read(body)
        client_id = recipient.client_id
        if webhook.is_terminal:
            self.statistics.last_terminal_at_us[client_id] = now_us
        if webhook.event is Event.VALIDATION:
            outcome = Outcome.VALIDATION
        elif webhook.event is Event.OTHER:
            outcome = Outcome.OTHER_EVENT
            name = (webhook.name or "")[:_MAX_LOGGED]
            _log.warning(
                "webhook.unknown_event", client_id=client_id, webhook_event=name
            )
        else:
            deadline = started_at + _ANSWER_SECONDS
            outcome = await self._keep(webhook, recipient, now_us, deadline)
        if outcome not in {Outcome.KNOWN, Outcome.UNAVAILABLE}:
            self.statistics.events[client_id, webhook.event] += 1
        return outcome

    async def _body(self, request: Request) -> bytes | Outcome:
        body = bytearray()
        try:
            # trio requires that a generator is closed by the task that used it.
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > self._max_body_bytes:
                        return Outcome.TOO_LARGE
        except ClientDisconnect:
            return Outcome.BROKEN_OFF
        return bytes(body)

    async def _keep(
        self, webhook: Webhook, recipient: Recipient, now_us: int, deadline: float
    ) -> Outcome:
        """Have a webhook written to disk; every failure becomes a 503."""
        assert webhook.value is not None, "only of events that make no record"
        record = recipient.make(webhook.value, now_us)
        client_id, delivery_id = recipient.client_id, webhook.delivery_id
        if webhook.event is Event.UNREADABLE:
            _log.warning(
                "webhook.unreadable",
                client_id=client_id,
                delivery_id=delivery_id,
                consequence="its body is a dead letter",
            )
        reason = f"it could not be written within {_ANSWER_SECONDS:g} s"
        try:
            with trio.move_on_at(deadline):
                ended_us = webhook.ended_us
                is_new = await self._holding.take(delivery_id, record, ended_us)
                return Outcome.TAKEN if is_new else Outcome.KNOWN
        except OutboxError as error:
            reason = str(error)
        except CancelledError:
            reason = "the outbox has ended, or its file is being replaced"
        _log.warning("webhook.not_taken", client_id=client_id, reason=reason)
        return Outcome.UNAVAILABLE
