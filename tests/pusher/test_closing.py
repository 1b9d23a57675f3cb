"""The table of close codes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.pusher.closing import RULES, Verdict, judge


def test_the_table_covers_all_codes_once() -> None:
    """From 1000 to 4999 each code has one rule."""
    assert RULES[0].first == 1000
    assert RULES[-1].last == 4999
    for rule, following in pairwise(RULES):
        assert rule.first <= rule.last
        assert following.first == rule.last + 1


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (None, Verdict.RETRY_NOW),
        (1000, Verdict.RETRY_NOW),
        (1001, Verdict.RETRY_NOW),
        (1002, Verdict.RETRY_LATER),
        (1006, Verdict.RETRY_NOW),
        (1008, Verdict.RETRY_SLOWLY),
        (1009, Verdict.RETRY_LATER),
        (1012, Verdict.RETRY_NOW),
        (3999, Verdict.RETRY_LATER),
        (4000, Verdict.USE_TLS),
        (4001, Verdict.TERMINAL),
        (4003, Verdict.TERMINAL),
        (4004, Verdict.RETRY_SLOWLY),
        (4005, Verdict.TERMINAL),
        (4008, Verdict.TERMINAL),
        (4009, Verdict.TERMINAL),
        (4050, Verdict.RETRY_SLOWLY),
        (4100, Verdict.RETRY_LATER),
        (4199, Verdict.RETRY_LATER),
        (4200, Verdict.RETRY_NOW),
        (4201, Verdict.RETRY_NOW),
        (4299, Verdict.RETRY_NOW),
        (4301, Verdict.RETRY_SLOWLY),
        (4999, Verdict.RETRY_SLOWLY),
        (0, Verdict.RETRY_SLOWLY),
        (65_535, Verdict.RETRY_SLOWLY),
    ],
)
def test_a_code_has_its_verdict(code: int | None, verdict: Verdict) -> None:
    """Each code is judged as the protocol and its servers mean it."""
    assert judge(code).verdict is verdict


def test_every_terminal_rule_says_what_to_do() -> None:
    """A refusal always comes with advice that names a setting."""
    for rule in RULES:
        if rule.verdict in {Verdict.TERMINAL, Verdict.USE_TLS}:
            assert "BRIDGE_" in rule.advice
