"""
The application that takes webhooks: what a sender is answered, and when.

2xx means that it stands on disk, synced, or that nothing is to be kept. All else is
refused at once and says no more than its status. What is genuine is judged in
`signature`, what it says is read in `delivery`; the port is opened elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from enum import StrEnum
from typing import Final

import msgspec
import structlog
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.errors import OutboxError
from bridge.events.record import Record
from bridge.gaps.delivery import Event, Webhook, delivery_of, read
from bridge.gaps.signature import Fault, seal_of
from bridge.outbox.values import Delivery
from bridge.settings import Secret, WebhookSettings
from bridge.threads import answer_of


__all__ = ["OUTCOMES", "Outcome", "Receiver", "Recipient", "WebhookStatistics"]

_log = structlog.get_logger("bridge.gaps")


class Outcome(StrEnum):
    """What a request was answered with, whatever its signature: a metric's label."""

    TAKEN = "taken"
    """It stands on disk."""

    KNOWN = "known"
    """It stood there before: dryAPI has sent it again."""

    VALIDATION = "validation"
    """The dashboard's test."""

    OTHER_EVENT = "other_event"
    """It is genuine, and of an event that nothing is known of."""

    UNAVAILABLE = "unavailable"
    """It could not be written in time: dryAPI is to send it again."""

    TOO_LARGE = "too_large"
    """Its body is larger than any of dryAPI's."""

    TOO_SLOW = "too_slow"
    """Its body did not come in time."""

    BROKEN_OFF = "broken_off"
    """Its body ended before its end."""


OUTCOMES: Final[tuple[Outcome | Fault, ...]] = (*Outcome, *Fault)
"""All of them: those of a request that isn't genuine are its faults."""


class WebhookStatistics:
    """
    Counts since the start.

    Args:
        accounts: The client ids whose webhooks are taken: each has its zeros.

    Attributes:
        deliveries: Requests that were answered, by client id and outcome.
        events: Genuine webhooks, each counted once, by client id and what they tell.
        strangers: Requests for an account that there isn't, or without a secret.
        last_terminal_at_us: When the last webhook came that tells of a job's end, by
            client id, microseconds since the epoch; None if none has come yet.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.deliveries: dict[tuple[str, Outcome | Fault], int] = {
            (who, outcome): 0 for who in accounts for outcome in OUTCOMES
        }
        self.events: dict[tuple[str, Event], int] = {
            (who, event): 0 for who in accounts for event in Event
        }
        self.strangers = 0
        self.last_terminal_at_us: dict[str, int | None] = dict.fromkeys(accounts)

    def answered(
        self, client_id: str, outcome: Outcome | Fault, webhook: Webhook | None
    ) -> None:
        """
        Count a request.

        Args:
            client_id: Whose.
            outcome: What it is answered with.
            webhook: What it says; None if it isn't genuine, or wasn't read.
        """
        self.deliveries[client_id, outcome] += 1
        if webhook is not None and outcome not in {Outcome.KNOWN, Outcome.UNAVAILABLE}:
            self.events[client_id, webhook.event] += 1


_PATH: Final = "/webhooks/dryapi"

# dryAPI waits for ten seconds: two are for the network. What comes later would be sent
# again though it was taken.
_ANSWER_SECONDS: Final = 8.0
# Some hundred bytes, mostly there with the head. The rest of the time is the disk's.
_BODY_SECONDS: Final = 5.0

# dryAPI's have some hundred bytes and an error's text; a thousand such at once are
# 128 MiB.
_MAX_BODY_BYTES: Final = 128 * 1024

# dryAPI's own first wait; it isn't known whether it looks at this header.
_RETRY_AFTER_SECONDS: Final = 60

_STATUS: Final = dict.fromkeys(Fault, 401) | {
    Outcome.TAKEN: 200,
    Outcome.KNOWN: 200,
    Outcome.VALIDATION: 200,
    Outcome.OTHER_EVENT: 200,
    Outcome.UNAVAILABLE: 503,
    Outcome.TOO_LARGE: 413,
    Outcome.TOO_SLOW: 408,
    Outcome.BROKEN_OFF: 400,
}
_REFUSED: Final = frozenset(
    {*Fault, Outcome.TOO_LARGE, Outcome.TOO_SLOW, Outcome.BROKEN_OFF}
)

_CLOCK: Final = "compare this machine's clock with dryAPI's: bridge check does"

# What the operator can do about a refusal; about others only their sender can.
_WHAT_TO_DO: Final[dict[Outcome | Fault, str]] = {
    Fault.WRONG_SIGNATURE: "compare webhook.secret, or the account's"
    " webhook_secret_file, with dryAPI's dashboard",
    Fault.TOO_OLD: _CLOCK,
    Fault.TOO_NEW: _CLOCK,
}

# An event's name is as long as its sender likes.
_MOST_SHOWN: Final = 100

_NS_PER_US: Final = 1000
_US_PER_SECOND: Final = 1_000_000


class Recipient(msgspec.Struct, frozen=True):
    """
    An account whose webhooks are taken.

    Attributes:
        client_id: Its name.
        secret: What they are signed with, one or several with blanks between them.
        make: Makes their records.
    """

    client_id: str
    secret: Secret
    make: Callable[[bytes, int], Record]


class Receiver:
    """
    Answers the webhooks of all accounts.

    Args:
        recipients: Whose webhooks are taken.
        take: Lays one down on disk.
        expect: Is told when one will be due that has been laid down, or may have been.
        settings: How large one may be, and how long it is held.
        steady_us: The clock for what is held: see `steady`.
        is_single: Whether there is one account, with the plain path; otherwise each has
            its own below that, with its client id.
        now_ns: The wall clock, nanoseconds since the epoch; it judges timestamps.

    Attributes:
        statistics: What was counted so far.
        app: The application.
    """

    def __init__(  # noqa: PLR0913 - the doors of four rooms, each given by name
        self,
        recipients: Sequence[Recipient],
        *,
        take: Callable[[Delivery], Future[bool]],
        expect: Callable[[int], None],
        statistics: WebhookStatistics,
        settings: WebhookSettings,
        steady_us: Callable[[], int],
        is_single: bool,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.statistics = statistics
        self._recipients: dict[str | None, Recipient] = {
            None if is_single else one.client_id: one for one in recipients
        }
        self._whose = (
            f"the account's path is {_PATH}"
            if is_single
            else f"each account's path is {_PATH}/{{client_id}}, if it has a webhook"
            " secret"
        )
        self._take = take
        self._expect = expect
        self._hold_us = round(settings.grace_period_seconds * _US_PER_SECOND)
        self._steady_us = steady_us
        self._now_ns = now_ns
        routes = [
            Route(path, self._answer, methods=["POST"])
            for path in (_PATH, f"{_PATH}/{{client_id}}")
        ]
        self.app = Starlette(routes=routes, exception_handlers={404: self._lost})
        # A sender that follows no redirect would be told nothing by one.
        self.app.router.redirect_slashes = False

    async def _answer(self, request: Request) -> Response:
        began = trio.current_time()
        recipient = self._recipients.get(request.path_params.get("client_id"))
        if recipient is None:
            return self._stranger(request)
        outcome, webhook = await self._outcome(request, recipient, began)
        client_id = recipient.client_id
        self.statistics.answered(client_id, outcome, webhook)
        if outcome in _REFUSED:
            known = _WHAT_TO_DO.get(outcome)
            hint = {} if known is None else {"hint": known}
            _log.warning(
                "webhook.refused", client_id=client_id, reason=outcome.value, **hint
            )
        status = _STATUS[outcome]
        if status == 200:
            said = msgspec.json.encode({"status": outcome.value})
            return Response(said, status, media_type="application/json")
        later = outcome is Outcome.UNAVAILABLE
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if later else None
        return Response(status_code=status, headers=headers)

    async def _lost(self, request: Request, _: Exception) -> Response:
        """Answer what no route takes: a wrong address looks like no webhook at all."""
        if request.method == "POST":
            return self._stranger(request)
        return Response(status_code=404)

    def _stranger(self, request: Request) -> Response:
        """Refuse what is for no account."""
        self.statistics.strangers += 1
        # `request.url` would raise for some Host headers.
        path = request.scope["path"][:_MOST_SHOWN]
        _log.warning(
            "webhook.refused", reason="unknown_account", path=path, hint=self._whose
        )
        return Response(status_code=404)

    async def _outcome(
        self, request: Request, recipient: Recipient, began: float
    ) -> tuple[Outcome | Fault, Webhook | None]:
        """Judge a request, and keep what is to be kept; give what it says, too."""
        # Before the body is read: noise costs nothing.
        seal = seal_of(request.scope["headers"])
        if isinstance(seal, Fault):
            return seal, None
        body = await self._body(request, began)
        if isinstance(body, Outcome):
            return body, None
        now_us = self._now_ns() // _NS_PER_US
        fault = seal.fault(body, recipient.secret, now_us / _US_PER_SECOND)
        if fault is not None:
            return fault, None
        webhook = read(body)
        if webhook.is_terminal:
            self.statistics.last_terminal_at_us[recipient.client_id] = now_us
        delivery = delivery_of(
            webhook,
            recipient.make,
            received_at_us=now_us,
            now_us=self._steady_us(),
            hold_us=self._hold_us,
        )
        self._tell(webhook, recipient.client_id)
        if delivery is not None:
            return await self._keep(delivery, recipient.client_id, began), webhook
        if webhook.event is Event.VALIDATION:
            return Outcome.VALIDATION, webhook
        return Outcome.OTHER_EVENT, webhook

    async def _body(self, request: Request, began: float) -> bytes | Outcome:
        """Read a body as far as it may go, in the time that it has."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > _MAX_BODY_BYTES:
            return Outcome.TOO_LARGE
        body = bytearray()
        with trio.move_on_at(began + _BODY_SECONDS) as patience:
            try:
                # Closed here: trio doesn't allow that a generator is left half-way.
                async with aclosing(request.stream()) as chunks:
                    async for chunk in chunks:
                        body += chunk
                        if len(body) > _MAX_BODY_BYTES:
                            return Outcome.TOO_LARGE
            except ClientDisconnect:
                return Outcome.BROKEN_OFF
        return Outcome.TOO_SLOW if patience.cancelled_caught else bytes(body)

    async def _keep(self, delivery: Delivery, client_id: str, began: float) -> Outcome:
        """Have a webhook laid down on disk; whatever keeps it from it is no 2xx."""
        reason = f"it could not be written within {_ANSWER_SECONDS:g} s"
        try:
            with trio.move_on_at(began + _ANSWER_SECONDS):
                is_new = await answer_of(self._take(delivery))
                return Outcome.TAKEN if is_new else Outcome.KNOWN
        except OutboxError as error:
            reason = str(error)
        except CancelledError:
            reason = "the outbox has ended, or its file is being replaced"
        finally:
            # Though nobody waits for it any more, it may have been laid down.
            self._expect(delivery.due_us)
        _log.warning("webhook.not_taken", client_id=client_id, reason=reason)
        return Outcome.UNAVAILABLE

    def _tell(self, webhook: Webhook, client_id: str) -> None:
        """Write down what is odd about a genuine webhook."""
        if webhook.event is Event.UNREADABLE:
            _log.warning(
                "webhook.unreadable",
                client_id=client_id,
                delivery_id=webhook.delivery_id,
                consequence="its body is a dead letter",
            )
        elif webhook.event is Event.OTHER:
            named = (webhook.name or "")[:_MOST_SHOWN]
            _log.warning("webhook.unknown_event", client_id=client_id, named=named)
