"""Which action follows a close code, an error, or an answer that doesn't come."""

from __future__ import annotations

from itertools import pairwise

from bridge.errors import ConnectionLostError
from bridge.pusher.close_codes import (
    RULES,
    Action,
    lost,
    refused_subscription,
    rule_of,
)
from bridge.pusher.protocol import ServerError, SubscriptionError


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


def test_row_21_an_end_is_classified_by_its_code_or_the_error() -> None:
    """The error's text is in the message."""
    full, fast = ServerError(4100, "full"), ServerError(4301, "too fast")
    for close_code, error, action, code in (
        # Reverb ends TCP after its error: the error's code decides.
        (None, full, Action.RETRY_LATER, 4100),
        (1006, full, Action.RETRY_LATER, 4100),
        # Where both carry a code, the close frame's is the later word.
        (4200, fast, Action.RETRY_NOW, 4200),
        (None, ServerError(None, "hm"), Action.RETRY_NOW, None),
        (4001, None, Action.TERMINAL, 4001),
    ):
        ended = lost(ConnectionLostError("gone", code=close_code), error)
        assert (ended.action, ended.code) == (action, code)
        assert error is None or repr(error.message) in str(ended)


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
