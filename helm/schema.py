"""values.schema.json: settings from the bridge, the others from `kubernetes`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bridge.settings import Kind, Setting, all_settings
from bridge.settings.catalog import account_settings
from helm.kubernetes import DEFINITIONS, SHAPES, closed
from helm.values import Value, ValuesError, variable


__all__ = ["build", "shape_of"]

Schema = dict[str, Any]

_TYPES: Final = {
    Kind.TEXT: "string",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
}


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
    for setting in all_settings():
        if setting.variables[0] == variable(value.path):
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


def _of_setting(setting: Setting, *, empty: bool) -> Schema:
    if setting.kind is Kind.CHOICE:
        return {"enum": [*([""] if empty else []), *setting.choices]}
    shape: Schema = {"type": _TYPES[setting.kind]}
    limits = {
        "minimum": setting.minimum,
        "exclusiveMinimum": setting.exclusive_minimum,
        "maximum": setting.maximum,
    }
    shape |= {name: limit for name, limit in limits.items() if limit is not None}
    if setting.form is not None and setting.form.pattern is not None:
        shape["pattern"] = f"^{setting.form.pattern}$"
        if empty:
            return {"anyOf": [{"const": ""}, shape]}
    return shape


def _accounts() -> Schema:
    (client_id,) = (
        _of_setting(setting, empty=False)
        for setting in account_settings(1)
        if setting.name == "client_id"
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
