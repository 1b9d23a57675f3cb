"""
What the end of a connection means: one table from close code to action.

The codes come from three places: RFC 6455 section 7.4 (1000-1999), the Pusher
protocol's page "Error codes" (4000-4399), and what soketi 1.6 and Laravel Reverb were
seen to send. `Backoff` makes seconds of an action.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from bridge.errors import (
    AuthorizationError,
    ConnectError,
    ConnectionLostError,
    SessionError,
)
from bridge.pusher.protocol import ServerError, SubscriptionError


__all__ = [
    "RULES",
    "Action",
    "Backoff",
    "EndedError",
    "Rule",
    "lost",
    "refused_subscription",
    "rule_of",
    "unanswered",
]


class Action(StrEnum):
    """What the session does after a connection ended."""

    # The first retry follows at once, later ones back off.
    RETRY_NOW = "retry_now"
    # Back off, starting at one second.
    RETRY_LATER = "retry_later"
    # Retry at the slowest rate: an operator has to change something.
    RETRY_SLOWLY = "retry_slowly"
    # A start that never worked ends; what has worked retries slowly.
    TERMINAL = "terminal"


class Rule(NamedTuple):
    """One row of the table: what the codes from `first` to `last` mean."""

    first: int
    last: int
    action: Action
    meaning: str
    # What the user has to do, if the action is terminal.
    hint: str = ""


_APP_KEY = "Check the app key: pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
_URL = "Check the server's address: pusher.url (BRIDGE_PUSHER_URL)"
_CLIENT = (
    "Check the client id (BRIDGE_CLIENT_ID) and that the API token"
    " (BRIDGE_API_TOKEN) belongs to it, or those of the account in [[accounts]]"
)
_DEPLOYMENT = (
    "Check that pusher.url (BRIDGE_PUSHER_URL), pusher.app_key"
    " (BRIDGE_PUSHER_APP_KEY) and api_url (BRIDGE_API_URL) belong to the same"
    " deployment"
)

# Sorted, without overlap; a test holds it to that.
RULES: tuple[Rule, ...] = (
    # RFC 6455 section 7.4.1. Nothing speaks against an immediate retry after a server
    # that goes away or a connection that breaks.
    Rule(1000, 1001, Action.RETRY_NOW, "the server closed the connection"),
    # pusher-js waits a second after these three.
    Rule(1002, 1004, Action.RETRY_LATER, "the server reported a protocol error"),
    Rule(1005, 1006, Action.RETRY_NOW, "the connection broke"),
    # 1007 and 1009 are found by this side: bad UTF-8, a message above the limit.
    Rule(1007, 1007, Action.RETRY_LATER, "a frame was not valid UTF-8"),
    Rule(1008, 1008, Action.RETRY_SLOWLY, "the server's policy forbids it"),
    Rule(1009, 1009, Action.RETRY_LATER, "a message was too large"),
    Rule(1010, 1011, Action.RETRY_LATER, "the server failed"),
    # IANA's registry: 1012 service restart, 1013 try again later.
    Rule(1012, 1012, Action.RETRY_NOW, "the server restarts"),
    Rule(1013, 1015, Action.RETRY_LATER, "the server asks to try later"),
    # IANA's range for libraries and frameworks; no Pusher server uses it.
    Rule(1016, 3999, Action.RETRY_LATER, "the connection was closed"),
    # Pusher protocol: 4000-4099 must not be tried again unchanged. What is changed is
    # the operator's choice, TLS too.
    Rule(4000, 4000, Action.TERMINAL, "the app accepts only TLS", _URL),
    Rule(4001, 4001, Action.TERMINAL, "the server knows no such app", _APP_KEY),
    Rule(4002, 4002, Action.RETRY_SLOWLY, "the server refused the connection"),
    Rule(4003, 4003, Action.TERMINAL, "the app is disabled", _APP_KEY),
    # A quota is refilled or raised while the bridge waits, so not terminal.
    Rule(4004, 4004, Action.RETRY_SLOWLY, "the app is over its quota"),
    Rule(4005, 4005, Action.TERMINAL, "the path was not found", _URL),
    Rule(4006, 4008, Action.TERMINAL, "the server lacks Pusher protocol 7", _URL),
    Rule(4009, 4009, Action.TERMINAL, "the connection is unauthorized", _CLIENT),
    Rule(4010, 4099, Action.RETRY_SLOWLY, "the server refused the connection"),
    # Pusher protocol: back off by a second or more; then: at once.
    Rule(4100, 4199, Action.RETRY_LATER, "the server is over capacity"),
    Rule(4200, 4299, Action.RETRY_NOW, "the server asks to reconnect"),
    # Pusher protocol: "other errors". pusher-js stops from 4300 on; a code that no
    # table names may pass by itself, so it is retried, but never fast.
    Rule(4300, 4999, Action.RETRY_SLOWLY, "the server closed with another error"),
)

# Of the two seconds within which a returned server is to be found, two tenths
# are left for connecting, authorizing and subscribing.
_SHORT_CAP_SECONDS: Final = 1.8
_SHORT_OUTAGE_SECONDS: Final = 30.0

# Jitter takes up to a quarter off. With the cap above, ten seconds of immediate
# refusals see at most ten connects: at 0, 0, 0.4, 1.1, 2.5, ... s.
_LEAST_SHARE: Final = 0.75

# It keeps a server that always closes below ten connections in ten seconds.
_INITIAL_SECONDS: Final = 0.5
# pusher-js's second wait; Pusher replays nothing, so longer ones would cost events.
_MAX_SECONDS: Final = 30.0

# Pusher protocol, 4100-4199: wait at least a second.
_LATER_SECONDS: Final = 1.0

# A rate that no server minds, when only an operator can change the answer.
_SLOWLY_SECONDS: Final = 30.0

_NO_CODE: Final = Rule(0, 0, Action.RETRY_NOW, "the connection broke")
_UNKNOWN: Final = Rule(
    0, 0, Action.RETRY_SLOWLY, "the server closed with an unknown code"
)

# Codes below are the WebSocket's own; a Pusher server's error says more.
_FIRST_PUSHER_CODE: Final = 4000


@dataclass(eq=False, repr=False)
class EndedError(SessionError):
    """A connection ended, or was never subscribed: do what `action` says."""

    action: Action
    # Close code, Pusher code or HTTP status, if there was one.
    code: int | None = None
    # Whether the connection was open and an answer didn't come through it.
    deaf: bool = False
    # How long the server asks to wait, if it does.
    retry_after_seconds: float | None = None


def rule_of(code: int | None) -> Rule:
    """Find the rule for a code; every one has one, and so has an end without."""
    if code is None:
        return _NO_CODE
    return next((rule for rule in RULES if rule.first <= code <= rule.last), _UNKNOWN)


def lost(
    loss: AuthorizationError | ConnectError | ConnectionLostError,
    error: ServerError | None,
) -> EndedError:
    """
    Classify a connection that could not be made or that ended by itself.

    Pusher's own servers send a close code only, soketi the code and an error, Reverb
    an error only: the code is taken from either. The error came right before.
    """
    if isinstance(loss, AuthorizationError):
        action = Action.TERMINAL if loss.terminal else Action.RETRY_LATER
        seconds = loss.retry_after_seconds
        return EndedError(
            loss.message,
            action,
            loss.status,
            hint=loss.hint,
            retry_after_seconds=seconds,
        )
    if isinstance(loss, ConnectError):
        # Never final, whatever the status: while a server is being replaced, its proxy
        # answers anything.
        action = Action.RETRY_LATER if loss.status else Action.RETRY_NOW
        return EndedError(loss.message, action, loss.status, hint=loss.hint)
    code, detail = loss.code, str(loss)
    if error is not None:
        if error.code is not None and (code is None or code < _FIRST_PUSHER_CODE):
            code = error.code
        detail = f"{detail}, after the error {error.message!r}"
    return _by_rule(code, detail)


def unanswered(missing: str, error: ServerError | None) -> EndedError:
    """
    Classify a connection that the bridge ends because an answer did not come.

    Reverb keeps a connection open whose subscription or app it refuses, and sends an
    error that names no channel: that error is the answer.
    """
    if error is None or error.code is None:
        return EndedError(missing, Action.RETRY_LATER)
    return _by_rule(error.code, f"{missing}, after the error {error.message!r}")


def refused_subscription(error: SubscriptionError) -> EndedError:
    """Classify a refused subscription: soketi sends HTTP statuses or Pusher codes."""
    status, words = error.status, " ".join(filter(None, (error.kind, error.message)))
    message = f"the server refused channel {error.channel} ({words!r}, {status})"
    if status in {401, 403, 4009}:
        return EndedError(message, Action.TERMINAL, status, hint=_DEPLOYMENT)
    if status is not None and 4100 <= status < 4200:
        return EndedError(message, rule_of(status).action, status)
    return EndedError(message, Action.RETRY_SLOWLY, status)


def _by_rule(code: int | None, detail: str) -> EndedError:
    rule = rule_of(code)
    return EndedError(f"{rule.meaning} ({detail})", rule.action, code, hint=rule.hint)


class Backoff:
    """
    The waits of one session.

    The first retry follows at once where the action allows it. For the first half
    minute of an outage no wait is longer than two seconds, so that a server that was
    restarted is found quickly; after that waits double up to the cap. All are spread
    over `spread_seconds`: many sessions may begin them in the same moment.
    """

    def __init__(
        self,
        jitter: random.Random,
        spread_seconds: float = 0.0,
    ) -> None:
        self._jitter = jitter
        self._spread_seconds = spread_seconds
        self.reset()

    def reset(self) -> None:
        """Begin again: a connection was up long enough to be called stable."""
        self._next_seconds = _INITIAL_SECONDS
        self._at_once = True

    def spread(self) -> float:
        """Give a wait that spreads what all sessions would do in the same moment."""
        return self._jitter.uniform(0.0, self._spread_seconds)

    def delay(
        self,
        action: Action,
        *,
        outage_seconds: float,
        retry_after_seconds: float | None = None,
    ) -> float:
        """Give the seconds until the next connection of an account with an outage."""
        at_once, self._at_once = self._at_once, False
        if action is Action.RETRY_NOW:
            seconds = 0.0 if at_once else self._double(outage_seconds)
        elif action is Action.RETRY_LATER:
            least = _LATER_SECONDS / _LEAST_SHARE
            seconds = max(least, self._double(outage_seconds))
        else:
            seconds = max(_SLOWLY_SECONDS, _MAX_SECONDS)
        seconds *= self._jitter.uniform(_LEAST_SHARE, 1.0)
        return max(seconds, retry_after_seconds or 0.0) + self.spread()

    def _double(self, outage_seconds: float) -> float:
        is_short = outage_seconds < _SHORT_OUTAGE_SECONDS
        cap = _SHORT_CAP_SECONDS if is_short else _MAX_SECONDS
        seconds = min(self._next_seconds, cap, _MAX_SECONDS)
        self._next_seconds = seconds * 2
        return seconds
