"""The judge of a record's value, which shares no code with the bridge."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


__all__ = ["UnfitError", "judge"]

_SCHEMA = json.loads(
    (Path(__file__).parents[2] / "schemas" / "job-status.schema.json").read_text(
        encoding="utf-8"
    )
)


def _like_ecma(schema: Any) -> Any:
    """Give the schema with `$` as JSON Schema means it: Python's is laxer."""
    if isinstance(schema, dict):
        return {
            name: value.removesuffix("$") + r"\Z"
            if name == "pattern" and isinstance(value, str)
            else _like_ecma(value)
            for name, value in schema.items()
        }
    return [_like_ecma(item) for item in schema] if isinstance(schema, list) else schema


_VALIDATOR = Draft202012Validator(_like_ecma(copy.deepcopy(_SCHEMA)))


class UnfitError(Exception):
    """The judge's verdict on a text that isn't strict JSON."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise UnfitError("a key occurs twice")
    return dict(pairs)


def _finite(literal: str) -> Decimal:
    if abs(float(literal)) == float("inf"):
        raise UnfitError("a number is too large for a double")
    return Decimal(literal)


def _no_constant(name: str) -> None:
    raise UnfitError(name)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def judge(data: bytes) -> dict[str, Any]:
    """Read what a reader of the topic would read."""
    try:
        text = data.decode()
        record = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_finite,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except ValueError as error:
        raise UnfitError(str(error)) from error
    problems = list(_VALIDATOR.iter_errors(record))
    if problems:
        raise UnfitError(problems[0].message)
    if _depth(record) > 64:
        raise UnfitError("too deep")
    assert isinstance(record, dict)
    return record
