"""
values.schema.json: what each value of the chart may be.

Settings come from the bridge. Other values have the type of their default in
values.yaml, and the limits that are listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bridge.settings import Setting, account_settings, all_settings


__all__ = ["build"]

Schema = dict[str, Any]

# The chart mounts the volume there.
_FIXED: Final = {"outbox.dir"}

_TYPES: Final[dict[type[Any], str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}


def _closed(properties: Mapping[str, Any], **more: Any) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        **more,
    }


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _objects(**more: Any) -> Schema:
    return {"type": "array", "items": {"type": "object", **more}}


# An empty name stands for none.
_NAME: Final = _text("([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?")
_STRINGS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": "string"},
}
_OPEN: Final[Schema] = {"type": "object"}
_DURATION: Final = _text("([0-9]+(ms|[smhdwy]))*")  # Prometheus' own
_PORT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 65535}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
_TIMES: Final = {
    "initialDelaySeconds": {"type": "integer", "minimum": 0},
    "periodSeconds": _COUNT,
    "timeoutSeconds": _COUNT,
    "failureThreshold": _COUNT,
}
_SECRET: Final[Schema] = {"$ref": "#/definitions/secret"}

# By a value's path, or by its last key where that always means the same.
_LIMITS: Final[dict[str, Schema]] = {
    "nameOverride": {"type": "string", "maxLength": 63},
    # A StatefulSet adds 11 characters to labels of at most 63.
    "fullnameOverride": {"type": "string", "maxLength": 52},
    # Two bridges would publish every event twice.
    "replicaCount": {"type": "integer", "minimum": 0, "maximum": 1},
    "image.digest": _text("(sha256:[0-9a-f]{64})?"),
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": _objects(required=["name"]),
    "existingSecret": _NAME,
    "namespace": _NAME,
    "className": _NAME,
    "host": _NAME,
    "labels": _STRINGS,
    "annotations": _STRINGS,
    "alertLabels": _STRINGS,
    "podAnnotations": _STRINGS,
    "podLabels": _STRINGS,
    "nodeSelector": _STRINGS,
    "service.port": _PORT,
    "webhook.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "webhook.ingress.path": _text("/.*"),
    "persistence.existingClaim": _NAME,
    # With a mode for many, two pods on two nodes could open one outbox.
    "persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod"]},
    },
    "persistence.size": _text("[0-9]+(\\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?"),
    "serviceMonitor.interval": _DURATION,
    "serviceMonitor.scrapeTimeout": _DURATION,
    "prometheusRule.disabled": {"type": "array", "items": {"type": "string"}},
    "prometheusRule.runbookUrl": _text("https?://[^/].*"),
    "prometheusRule.extraGroups": _objects(required=["name", "rules"]),
    "podDisruptionBudget.maxUnavailable": {
        "anyOf": [{"type": "integer", "minimum": 0}, _text("[0-9]+%")]
    },
    "serviceAccount.name": _NAME,
    "updateStrategy": _closed(
        {"type": {"enum": ["RollingUpdate", "OnDelete"]}, "rollingUpdate": _OPEN},
        required=["type"],
    ),
    "terminationGracePeriodSeconds": _COUNT,
    # Kubernetes accepts no successThreshold but 1 for these two.
    "startupProbe": _closed(_TIMES),
    "livenessProbe": _closed(_TIMES),
    "readinessProbe": _closed(_TIMES | {"successThreshold": _COUNT}),
    "resources": _closed({"requests": _OPEN, "limits": _OPEN, "claims": _objects()}),
    "podSecurityContext": _OPEN,
    "securityContext": _OPEN,
    "affinity": _OPEN,
    "extraEnv": _objects(required=["name"]),
    "extraVolumes": _objects(required=["name"]),
    "extraVolumeMounts": _objects(required=["name"]),
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
}


def build(values: Mapping[str, Any]) -> Schema:
    """
    Make the schema.

    Args:
        values: The defaults, as values.yaml has them.
    """
    others = {name: value for name, value in values.items() if name != "settings"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart bridge",
        **_closed(
            {
                "global": _OPEN,  # Helm's own
                "settings": _settings(values["settings"]),
                **_others(others, "")["properties"],
            }
        ),
        "definitions": {
            "secret": _closed(
                {"existingSecret": _NAME, "key": _text("[A-Za-z0-9._-]+")},
                required=["existingSecret", "key"],
            )
        },
    }


def _others(values: Mapping[str, Any], prefix: str) -> Schema:
    return _closed(
        {name: _other(value, f"{prefix}{name}") for name, value in values.items()}
    )


def _other(default: Any, path: str) -> Schema:
    words = path.split(".")
    for known in (path, ".".join(words[-2:]), words[-1]):
        if known in _LIMITS:
            return _LIMITS[known]
    if isinstance(default, Mapping):
        return _others(default, f"{path}.")
    if isinstance(default, list):
        return _objects()
    types = {str: "string", bool: "boolean", int: "integer"}
    return {"type": types[type(default)]}


def _settings(defaults: Mapping[str, Any]) -> Schema:
    found = _closed({"accounts": {"type": "array", "items": _account()}})
    for setting in all_settings():
        if setting.path in _FIXED:
            continue
        place = found["properties"]
        if setting.section:
            place = place.setdefault(setting.section, _closed({}))["properties"]
        # An empty default in values.yaml shows that the setting is required.
        is_empty = defaults.get(setting.name) == "" and not setting.section
        place[setting.name] = _setting(setting, is_empty=is_empty)
    return found


def _account() -> Schema:
    members = {
        setting.name: _setting(setting, is_empty=False)
        for setting in account_settings(1)
    }
    return _closed(members, required=["client_id", "api_token"])


def _setting(setting: Setting, *, is_empty: bool) -> Schema:
    description = f"{setting.description}."
    if setting.is_secret:
        # Draft 7 reads nothing beside a reference, a description neither.
        return {"description": description, "allOf": [_SECRET]}
    if setting.choices:
        return {"description": description, "enum": list(setting.choices)}
    limits = {
        "minimum": setting.minimum,
        "exclusiveMinimum": setting.exclusive_minimum,
        "maximum": setting.maximum,
    }
    shape: Schema = {"type": _TYPES[setting.type]}
    shape |= {name: limit for name, limit in limits.items() if limit is not None}
    form = setting.form
    if form is not None and form.pattern is not None:
        shape = _text(f"({form.pattern})?" if is_empty else form.pattern)
    # A name or a certificate may come from a Secret as well.
    if form is not None and form.is_private and not setting.account:
        shape = {"anyOf": [shape, _SECRET]}
    return {"description": description, **shape}
