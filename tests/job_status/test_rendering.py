"""A decoded value is written down as it was, however deep."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.job_status.rendering import render


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_rendered_value_is_what_the_library_writes(value: Any) -> None:
    """The text equals that of Python's own compact encoder."""
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert render(value) == expected


def test_depth_is_no_limit() -> None:
    """Nesting that recursion could not follow is written down."""
    value: Any = 1
    for _ in range(50_000):
        value = {"a": [value]}
    assert render(value) == '{"a":[' * 50_000 + "1" + "]}" * 50_000


def test_half_of_a_surrogate_pair_stays() -> None:
    """Text that UTF-8 can't say is kept for whoever repairs it."""
    assert render(["\ud800"]) == '["\ud800"]'
