"""Which action follows a close code, an error, or an answer that doesn't come."""

from __future__ import annotations

from itertools import pairwise

from bridge.errors import AuthorizationError, ConnectError, ConnectionLostError
from bridge.pusher.close_codes import (
    RULES,
    Action,
    lost,
    refused_subscription,
    rule_of,
    unanswered,
)
from bridge.pusher.protocol import ServerError, SubscriptionError


_NO_TOKEN = AuthorizationError("401", status=401, terminal=True)
_SLOWER = AuthorizationError("429", status=429, retry_after_seconds=7.0)


def test_the_table_is_sorted_and_has_no_hole() -> None:
    """Each code from 1000 to 4999 has one rule."""
    assert (RULES[0].first, RULES[-1].last) == (1000, 4999)
    for rule, following in pairwise(RULES):
        assert rule.first <= rule.last
        assert following.first == rule.last + 1


def test_a_code_has_its_action() -> None:
    """Each code is classified as the protocol and its servers mean it."""
    expected: dict[Action, list[int | None]] = {
        Action.RETRY_NOW: [None, 1000, 1001, 1006, 1012, 4200, 4201, 4299],
        Action.RETRY_LATER: [1002, 1009, 3999, 4100, 4199],
        Action.RETRY_SLOWLY: [1008, 4004, 4050, 4301, 4999, 0, 65_535],
        Action.TERMINAL: [4000, 4001, 4003, 4005, 4008, 4009],
    }
    actual = {
        action: [code for code in codes if rule_of(code).action is action]
        for action, codes in expected.items()
    }
    assert actual == expected


def test_every_terminal_rule_has_a_hint_that_names_a_setting() -> None:
    """The user learns what to check."""
    for rule in RULES:
        if rule.action is Action.TERMINAL:
            assert "BRIDGE_" in rule.hint


def test_rows_21_34_an_end_is_classified_by_its_code_status_or_error() -> None:
    """Only the auth endpoint can refuse for good without a code; silence is none."""
    full, fast = ServerError(4100, "full"), ServerError(4301, "too fast")
    hm, refused = ServerError(None, "hm"), ServerError(4009, "unauthorized")
    for ended, action, code in (
        # Reverb ends TCP after its error: the error's code decides.
        (lost(ConnectionLostError("gone"), full), Action.RETRY_LATER, 4100),
        (lost(ConnectionLostError("gone", code=1006), full), Action.RETRY_LATER, 4100),
        # Where both carry a code, the close frame's is the later word.
        (lost(ConnectionLostError("gone", code=4200), fast), Action.RETRY_NOW, 4200),
        (lost(ConnectionLostError("gone"), hm), Action.RETRY_NOW, None),
        (lost(ConnectionLostError("gone", code=4001), None), Action.TERMINAL, 4001),
        (lost(_NO_TOKEN, None), Action.TERMINAL, 401),
        (lost(_SLOWER, None), Action.RETRY_LATER, 429),
        (lost(ConnectError("401", status=401), None), Action.RETRY_LATER, 401),
        (lost(ConnectError("no answer"), None), Action.RETRY_NOW, None),
        # Reverb's 4009 without channel answers the pending subscription.
        (unanswered("no answer", refused), Action.TERMINAL, 4009),
        (unanswered("no answer", hm), Action.RETRY_LATER, None),
        (unanswered("no answer", None), Action.RETRY_LATER, None),
    ):
        assert (ended.action, ended.code) == (action, code), str(ended)
    assert "'full'" in str(lost(ConnectionLostError("gone"), full))
    assert lost(_SLOWER, None).retry_after_seconds == 7.0


def test_row_32_a_refused_subscription_is_classified_by_its_status() -> None:
    """A channel that is full may have room later; one that is forbidden has a hint."""
    expected: list[tuple[int | None, Action]] = [
        *((status, Action.TERMINAL) for status in (401, 403, 4009)),
        (4100, Action.RETRY_LATER),
        *((status, Action.RETRY_SLOWLY) for status in (4301, None)),
    ]
    for status, action in expected:
        ended = refused_subscription(
            SubscriptionError("private-x", status, "AuthError", "no")
        )
        assert (ended.action, ended.code) == (action, status)
        assert ("BRIDGE_PUSHER_APP_KEY" in ended.hint) is (action is Action.TERMINAL)
        assert "private-x" in str(ended)
