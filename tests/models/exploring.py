"""How many orders of events the models try, and from which seed.

One number for all models: each takes a share of it by what one of its orders costs.
With 300, what `make test` tries, they take 40 s of one core together; the same orders
each time. `BRIDGE_TEST_ORDERS=3000` tries ten times as many, `BRIDGE_TEST_SEED=7` or
`random` others. A failure prints both.

An order that fails is made smaller until nothing can be left out, which may take
minutes; `BRIDGE_TEST_SHRINK=no` reports the first one that was found.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


ORDERS = int(os.environ.get("BRIDGE_TEST_ORDERS") or 300)

_GIVEN = os.environ.get("BRIDGE_TEST_SEED") or "0"
_SEED = random.SystemRandom().getrandbits(32) if _GIVEN == "random" else int(_GIVEN)

_PHASES = [Phase.explicit, Phase.generate]
if os.environ.get("BRIDGE_TEST_SHRINK") != "no":
    _PHASES.append(Phase.shrink)

_Test = TypeVar("_Test", bound=Callable[..., Any])


def explore(
    machine: type[RuleBasedStateMachine], *, share: float, steps: int = 50
) -> None:
    """Let a model's rules happen in many orders."""
    _print_how_to_repeat()
    run_state_machine_as_test(
        hypothesis.seed(_SEED)(machine), settings=_settings(share, steps)
    )


def explored(share: float) -> Callable[[_Test], _Test]:
    """Let a test with `given` try its share of `ORDERS`."""

    def decorate(test: _Test) -> _Test:
        return hypothesis.seed(_SEED)(_settings(share, 50)(test))

    return decorate


def _settings(share: float, steps: int) -> settings:
    return settings(
        max_examples=max(1, round(ORDERS * share)),
        stateful_step_count=steps,
        phases=_PHASES,
        # What was found before must not decide what is tried now.
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def _print_how_to_repeat() -> None:
    """Print what pytest shows beside a failure."""
    print(f"BRIDGE_TEST_ORDERS={ORDERS} BRIDGE_TEST_SEED={_SEED}")  # noqa: T201
