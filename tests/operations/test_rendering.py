"""Tests of single steps from a record to a line; `test_logs` has the whole."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from bridge.operations.rendering import clean, describe_exception, print_exception


def _raise(depth: int) -> None:
    if not depth:
        raise ValueError("the first of all")
    try:
        _raise(depth - 1)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"level {depth}") from error


def _raised(depth: int) -> Exception:
    """Make an exception with a chain of causes."""
    with pytest.raises(RuntimeError) as caught:
        _raise(depth)
    return caught.value


@pytest.mark.parametrize("render", [describe_exception, print_exception])
@pytest.mark.parametrize("found", [(None, None, None), True, False, None])
def test_no_exception_makes_no_field(render: object, found: object) -> None:
    """Asked for an exception where there is none, a line has none."""
    assert callable(render)
    assert sys.exc_info() == (None, None, None)
    assert render(None, "", {"event": "x", "exc_info": found}) == {"event": "x"}


def test_chain_is_described_down_to_a_depth() -> None:
    """The outer exceptions of a long chain are shown, and it ends somewhere."""
    event = describe_exception(None, "", {"exc_info": _raised(40)})
    shown, depth = event["exception"], 1
    while "cause" in shown:
        shown, depth = shown["cause"], depth + 1
    assert event["exception"]["message"] == "level 40"
    assert depth == 5


def test_long_traceback_keeps_its_end() -> None:
    """For people the last exception counts: the beginning is cut."""
    event = print_exception(None, "", {"exc_info": _raised(200)})
    assert len(event["exception"]) == 8192
    assert event["exception"].endswith("RuntimeError: level 200")


def test_suppressed_context_is_not_shown() -> None:
    """What was raised `from None` has no cause."""
    error = ValueError("outer")
    error.__context__ = KeyError("inner")
    error.__suppress_context__ = True
    event = describe_exception(None, "", {"exc_info": error})
    assert "cause" not in event["exception"]


_SHOWN: list[tuple[object, object]] = [
    (TimeoutError("too late"), "TimeoutError: too late"),
    (SimpleNamespace(a=1), "namespace(a=1)"),
    ((1, 2.5), [1, 2.5]),
    (frozenset({True}), [True]),
    ({3: None}, {"3": None}),
]


def test_values_become_data_or_text(subtests: pytest.Subtests) -> None:
    """Containers are lists and objects, an exception is a sentence, the rest prints."""
    for value, shown in _SHOWN:
        with subtests.test(value=value):
            assert clean(None, "", {"it": value}) == {"it": shown}
