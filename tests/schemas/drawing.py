"""Records drawn from a JSON Schema, of the keywords that the bridge's schemas use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab\n", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text("abc", max_size=1), inner, max_size=2)
    ),
    max_leaves=4,
)


def drawn(schema: Any) -> st.SearchStrategy[Any]:
    """Give a strategy of what is valid under a schema."""
    if isinstance(schema, bool):
        return _ANYTHING if schema else st.nothing()
    if "anyOf" in schema:
        return st.one_of([drawn(part) for part in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return _OF_TYPE[schema["type"]](schema) if "type" in schema else _ANYTHING


def _numbers(schema: Any) -> st.SearchStrategy[Any]:
    return _integers(schema) | st.floats(schema.get("minimum"), width=32)


def _integers(schema: Any) -> st.SearchStrategy[Any]:
    """Draw the limits often: a limit that has moved is found there."""
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    numbers = st.integers(schema.get("minimum"), schema.get("maximum"))
    return st.sampled_from(limits) | numbers if limits else numbers


def _texts(schema: Any) -> st.SearchStrategy[str]:
    """Draw the longest text often, as with numbers."""
    longest, pattern = schema.get("maxLength"), schema.get("pattern")
    texts = st.text(min_size=schema.get("minLength", 0), max_size=longest)
    if pattern is not None:
        texts = st.from_regex(pattern.removesuffix("$") + r"\Z", fullmatch=True)
    if longest is None:
        return texts
    texts = texts.filter(lambda text: len(text) <= longest)
    limit = "1" * longest
    is_valid = pattern is None or re.search(pattern, limit)
    return st.just(limit) | texts if is_valid else texts


@st.composite
def _objects(draw: st.DrawFn, schema: Any) -> dict[str, Any]:
    """Draw what is required, some of the rest, and members without a schema."""
    members = schema.get("properties", {})
    required = set(schema.get("required", []))
    others = schema.get("additionalProperties", True)
    record: dict[str, Any] = {}
    if others is not False:
        names = st.text("abc", max_size=2)
        record |= draw(st.dictionaries(names, drawn(others), max_size=2))
    for name, member in members.items():
        if name in required or draw(st.booleans()):
            record[name] = draw(drawn(member))
        else:
            record.pop(name, None)
    for name in required - members.keys():
        record[name] = draw(drawn(others))
    return record


_OF_TYPE: dict[str, Callable[[Any], st.SearchStrategy[Any]]] = {
    "object": _objects,
    "string": _texts,
    "integer": _integers,
    "number": _numbers,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}
