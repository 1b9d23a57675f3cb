"""
What the end of a connection means: one table from close code to verdict.

Every judgement of a code lives here. How long a verdict makes the session wait
is `backoff`'s business, and what the session does about it is `session`'s.

The codes come from three places: RFC 6455 section 7.4 (1000-1999), the Pusher
protocol's page "Error codes" (4000-4399), and what soketi 1.6 and Laravel
Reverb were seen to send.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


__all__ = ["RULES", "Rule", "Verdict", "judge"]


class Verdict(StrEnum):
    """What the session does after a connection ended."""

    RETRY_NOW = "retry_now"
    """The first retry goes out at once, later ones back off."""

    RETRY_LATER = "retry_later"
    """Back off from one second on."""

    RETRY_SLOWLY = "retry_slowly"
    """Try again at the slowest pace: a person has to change something."""

    TERMINAL = "terminal"
    """A start that never worked ends; what once worked retries slowly."""

    USE_TLS = "use_tls"
    """Try again over TLS; over TLS already, this is terminal."""


class Rule(msgspec.Struct, frozen=True):
    """
    One row of the table.

    Attributes:
        first: Lowest close code that the rule is for.
        last: Highest close code that the rule is for.
        verdict: What to do.
        meaning: What the server says with it, for logs and errors.
        advice: What the user has to do, for a terminal verdict.
    """

    first: int
    last: int
    verdict: Verdict
    meaning: str
    advice: str = ""


_APP_KEY = "check the app key: setting pusher.app_key (BRIDGE_PUSHER_APP_KEY)"
_URL = "check the server's address: setting pusher.url (BRIDGE_PUSHER_URL)"
_CLIENT = (
    "check the client id (BRIDGE_CLIENT_ID) and that the API token"
    " (BRIDGE_API_TOKEN) belongs to it, or those of the account in [[accounts]]"
)

# Sorted, without overlap; a test holds it to that.
RULES: tuple[Rule, ...] = (
    # RFC 6455 section 7.4.1. A server that goes away or a line that breaks
    # says nothing against an immediate retry.
    Rule(1000, 1001, Verdict.RETRY_NOW, "the server closed the connection"),
    # pusher-js waits a second after these three.
    Rule(1002, 1004, Verdict.RETRY_LATER, "the server complained of the protocol"),
    Rule(1005, 1006, Verdict.RETRY_NOW, "the connection broke"),
    # 1007 and 1009 are found by this side: bad UTF-8, a message above the cap.
    Rule(1007, 1007, Verdict.RETRY_LATER, "a frame was not valid UTF-8"),
    Rule(1008, 1008, Verdict.RETRY_SLOWLY, "the server's policy forbids it"),
    Rule(1009, 1009, Verdict.RETRY_LATER, "a message was too large"),
    Rule(1010, 1011, Verdict.RETRY_LATER, "the server failed"),
    # IANA's registry: 1012 service restart, 1013 try again later.
    Rule(1012, 1012, Verdict.RETRY_NOW, "the server restarts"),
    Rule(1013, 1015, Verdict.RETRY_LATER, "the server asks to try later"),
    # IANA's range for libraries and frameworks; no Pusher server uses it.
    Rule(1016, 3999, Verdict.RETRY_LATER, "the connection was closed"),
    # Pusher protocol: 4000-4099 must not be tried again unchanged.
    Rule(4000, 4000, Verdict.USE_TLS, "the app accepts only TLS", _URL),
    Rule(4001, 4001, Verdict.TERMINAL, "the server knows no such app", _APP_KEY),
    Rule(4002, 4002, Verdict.RETRY_SLOWLY, "the server refused the connection"),
    Rule(4003, 4003, Verdict.TERMINAL, "the app is disabled", _APP_KEY),
    # A quota is refilled or raised while the bridge waits, so not terminal.
    Rule(4004, 4004, Verdict.RETRY_SLOWLY, "the app is over its quota"),
    Rule(4005, 4005, Verdict.TERMINAL, "the path was not found", _URL),
    Rule(
        4006, 4008, Verdict.TERMINAL, "the server doesn't speak Pusher protocol 7", _URL
    ),
    Rule(4009, 4009, Verdict.TERMINAL, "the connection is unauthorized", _CLIENT),
    Rule(4010, 4099, Verdict.RETRY_SLOWLY, "the server refused the connection"),
    # Pusher protocol: back off by a second or more; then: at once.
    Rule(4100, 4199, Verdict.RETRY_LATER, "the server is over capacity"),
    Rule(4200, 4299, Verdict.RETRY_NOW, "the server asks to reconnect"),
    # Pusher protocol: "other errors". pusher-js gives up from 4300 on; what
    # no table names may pass by itself, so it is tried, but never fast.
    Rule(4300, 4999, Verdict.RETRY_SLOWLY, "the server closed with another error"),
)

_NO_CODE = Rule(0, 0, Verdict.RETRY_NOW, "the connection broke")
_UNKNOWN = Rule(0, 0, Verdict.RETRY_SLOWLY, "the server closed with an unknown code")


def judge(code: int | None) -> Rule:
    """
    Find the rule for a close code.

    Args:
        code: The code of the close frame or of `pusher:error`; None for an end
            without either.

    Returns:
        The rule: every code has one.
    """
    if code is None:
        return _NO_CODE
    for rule in RULES:
        if rule.first <= code <= rule.last:
            return rule
    return _UNKNOWN
