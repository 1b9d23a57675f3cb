"""
VALUES.md: every value with its type, its default and its comment in values.yaml.

Owns the page's layout. What is said of a value stands in values.yaml alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from helm.schema import shape_of
from helm.values import Value


__all__ = ["build"]

_HEAD: Final = """\
# Values of the chart `bridge`

<!-- Written by `make chart` from values.yaml: change it there, not here. -->
"""

_COLUMNS: Final = ("value", "type", "default", "meaning")


def build(values: Iterable[Value]) -> str:
    """
    Make the page.

    Args:
        values: What values.yaml has.

    Returns:
        Markdown, with a newline at its end.
    """
    groups: dict[str, list[Value]] = {"": []}
    for name, members in groupby(values, key=lambda value: value.group):
        groups.setdefault(name, []).extend(members)
    blocks = [_HEAD]
    for name, found in groups.items():
        title = f"`{name}`" if name else "Without a group"
        blocks.append(f"## {title}\n\n{''.join(_table(found))}")
    return "\n".join(blocks)


def _table(values: Iterable[Value]) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |\n"
    yield f"|{' --- |' * len(_COLUMNS)}\n"
    for value in values:
        cells = (
            f"`{value.path}`",
            _type(shape_of(value)),
            f"`{json.dumps(value.default)}`",
            value.description,
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _type(shape: dict[str, Any]) -> str:
    """Give a value's type in a word or two."""
    if "enum" in shape:
        return "choice"
    if "allOf" in shape or "anyOf" in shape:
        members = shape.get("allOf") or shape["anyOf"]
        return " or ".join(dict.fromkeys(filter(None, map(_type, members))))
    if "const" in shape:
        return ""
    if reference := shape.get("$ref"):
        return "mapping" if reference.endswith("/strings") else "string"
    name: str = shape["type"]
    return {"object": "mapping", "array": "list"}.get(name, name)
