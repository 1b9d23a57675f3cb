"""
values.schema.json: settings as the bridge describes them, the rest from `kubernetes`.

Owns how a setting's description becomes JSON Schema that Helm understands: its
regular expressions are RE2's, which looks neither ahead nor behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from bridge.settings import Kind, SettingDescription, describe
from bridge.settings.catalogue import describe_account
from helm.kubernetes import DEFINITIONS, SHAPES, closed
from helm.values import Value, ValuesError, variable


__all__ = ["build", "shape_of"]

Schema = dict[str, Any]

# What the bridge judges by a function; a pattern finds the most likely mistake.
_BEGINNINGS: Final = {
    "api_url": "^https?://[^/]",
    "pusher.url": "^wss?://[^/]",
    "kafka.sasl_oauth_token_url": "^https?://[^/]",
    "schema_registry.url": "^https?://[^/]",
}

_TYPES: Final = {
    Kind.TEXT: "string",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
}

# Python's "$" would let a line end through; RE2's does not.
_NO_LINE_END: Final = r"(?!\n)"
_UNLIKE: Final = re.compile(r"\^\(\?!((?:\\.|[^()\\])*)\)")


def build(values: Iterable[Value]) -> Schema:
    """
    Make the schema.

    Args:
        values: What values.yaml has.

    Raises:
        ValuesError: Nothing says what a value may be.
    """
    properties: Schema = {
        "global": {
            "type": "object",
            "description": "Helm's own; the chart reads nothing from it.",
        }
    }
    for value in values:
        *groups, name = value.path.split(".")
        place = properties
        for group in groups:
            place = place.setdefault(group, closed({}))["properties"]
        place[name] = {"description": value.description, **shape_of(value)}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart bridge",
        **closed(properties),
        "definitions": DEFINITIONS,
    }


def shape_of(value: Value) -> Schema:
    """
    Say what a value may be.

    Args:
        value: One of values.yaml.

    Raises:
        ValuesError: It is no setting, and no shape is written for it.
    """
    if value.path == "accounts":
        return _accounts()
    for setting in describe():
        if setting.environment == variable(value.path):
            # Empty is the chart's word for "none given".
            return _of_setting(setting, empty=value.default == "")
    for known in (value.path, value.path.rpartition(".")[2]):
        if known in SHAPES:
            shape = SHAPES[known]
            # Beside a reference draft 7 reads nothing, a description neither.
            return {"allOf": [shape]} if "$ref" in shape else shape
    raise ValuesError(
        f"{value.path} is no setting of the bridge ({variable(value.path)}): "
        "helm/kubernetes.py must say what it may be"
    )


def _of_setting(setting: SettingDescription, *, empty: bool) -> Schema:
    if setting.kind is Kind.CHOICE:
        return {"enum": [*([""] if empty else []), *setting.choices]}
    shape: Schema = {"type": _TYPES[setting.kind]}
    limits = {
        "minimum": setting.minimum,
        "exclusiveMinimum": setting.exclusive_minimum,
        "maximum": setting.maximum,
    }
    shape |= {name: limit for name, limit in limits.items() if limit is not None}
    pattern = _BEGINNINGS.get(setting.path) or setting.pattern
    if pattern is not None:
        shape |= _matching(pattern)
        if empty:
            return {"anyOf": [{"const": ""}, shape]}
    return shape


def _matching(pattern: str) -> Schema:
    """Say in RE2's words what a setting's pattern says in Python's."""
    pattern = pattern.removesuffix(_NO_LINE_END)
    shape: Schema = {}
    if unlike := _UNLIKE.match(pattern):
        shape["not"] = {"pattern": f"^{unlike[1]}"}
        pattern = f"^{pattern[unlike.end() :]}"
    if "(?" in pattern:
        raise ValuesError(f"RE2 may not know this pattern: {pattern}")
    return {"pattern": pattern, **shape}


def _accounts() -> Schema:
    (client_id,) = (
        _of_setting(setting, empty=False)
        for setting in describe_account(1)
        if setting.rules == "client_id"
    )
    account = {
        "clientId": client_id,
        "existingSecret": {"$ref": "#/definitions/name"},
        "apiTokenKey": {"$ref": "#/definitions/key"},
        "webhookSecretKey": {"$ref": "#/definitions/optionalKey"},
    }
    return {
        "type": "array",
        "items": closed(account, required=["clientId", "existingSecret"]),
    }
