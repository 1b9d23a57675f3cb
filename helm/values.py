"""
The chart's values as values.yaml has them: path, default, and what a comment says.

A key with a comment that begins with `# --` is a value; a mapping without one is a
group of values. What a value may be is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml


__all__ = ["CHART", "Value", "ValuesError", "read", "variable"]

CHART: Final = Path(__file__).parent / "bridge"

_MARK: Final = "# --"


class ValuesError(Exception):
    """A value that the generated files can't be made from: correct values.yaml."""


@dataclass(frozen=True, slots=True)
class Value:
    """
    One value.

    Attributes:
        path: Its keys, joined by dots.
        default: What it is unless somebody says otherwise.
        description: What it is: its comment.
    """

    path: str
    default: Any
    description: str

    @property
    def group(self) -> str:
        """The first of its keys, or nothing for a value of no group."""
        return self.path.partition(".")[0] if "." in self.path else ""


def read(text: str) -> tuple[Value, ...]:
    """
    Take values.yaml apart.

    Args:
        text: The file.

    Returns:
        The values, in the file's order.

    Raises:
        ValuesError: A key is neither a value nor a group.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return tuple(_values(root, yaml.safe_load(text), "", text.splitlines()))


def variable(path: str) -> str:
    """
    Name the variable that a value becomes, if it is a setting.

    Args:
        path: The value's: `kafka.maxBatchBytes` for instance.

    Returns:
        `BRIDGE_KAFKA_MAX_BATCH_BYTES` for that one. The account's values stand in
        the group `dryapi`, and its settings in none.
    """
    words = re.sub(r"(?=[A-Z])", "_", path.removeprefix("dryapi."))
    return f"BRIDGE_{words.replace('.', '_').upper()}"


def _values(
    node: yaml.MappingNode, defaults: dict[str, Any], prefix: str, lines: list[str]
) -> Iterator[Value]:
    for key, below in node.value:
        path, default = prefix + key.value, defaults[key.value]
        description = _comment(lines, key.start_mark.line)
        if description:
            yield Value(path, default, description)
        elif isinstance(below, yaml.MappingNode) and below.value:
            yield from _values(below, default, f"{path}.", lines)
        else:
            raise ValuesError(f'{path} has no comment that begins with "{_MARK}"')


def _comment(lines: list[str], at: int) -> str:
    """Give the comment right above a line, from its mark on; "" without a mark."""
    said: list[str] = []
    for line in reversed(lines[:at]):
        words = line.strip()
        if not words.startswith("#"):
            break
        if words.startswith(_MARK):
            return " ".join([words.removeprefix(_MARK).strip(), *said])
        said.insert(0, words.removeprefix("#").strip())
    return ""
