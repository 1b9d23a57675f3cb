"""
What values may be that are no settings of the bridge: Kubernetes' own, and the chart's.

Written by hand, as JSON Schema. Nothing of a setting is repeated here: `schema` takes
those from the bridge.
"""

from __future__ import annotations

from typing import Any, Final


__all__ = ["DEFINITIONS", "SHAPES", "closed"]

Schema = dict[str, Any]


def closed(properties: Schema, **more: Any) -> Schema:
    """Make the schema of a mapping that has these keys and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **more,
    }


def _reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _optional(name: str) -> Schema:
    return {"anyOf": [{"const": ""}, _reference(name)]}


_TEXT: Final[Schema] = {"type": "string"}
_SWITCH: Final[Schema] = {"type": "boolean"}
_OBJECT: Final[Schema] = {"type": "object"}
_OBJECTS: Final[Schema] = {"type": "array", "items": _OBJECT}
_NAMED: Final[Schema] = {
    "type": "array",
    "items": {"type": "object", "required": ["name"]},
}
_STRINGS: Final = _reference("strings")
_NAME: Final = _reference("optionalName")
_KEY: Final = _reference("key")
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_DURATION: Final[Schema] = {
    "type": "string",
    # Prometheus' durations.
    "pattern": "^([0-9]+(ms|[smhdwy]))*$",
}


def _probe(**more: Schema) -> Schema:
    seconds = {"type": "integer", "minimum": 1}
    return closed(
        {
            "initialDelaySeconds": {"type": "integer", "minimum": 0},
            "periodSeconds": seconds,
            "timeoutSeconds": seconds,
            "failureThreshold": seconds,
            **more,
        }
    )


DEFINITIONS: Final[Schema] = {
    "name": {
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
    },
    "optionalName": _optional("name"),
    "key": {
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^[A-Za-z0-9._-]+$",
    },
    "optionalKey": _optional("key"),
    "strings": {"type": "object", "additionalProperties": _TEXT},
}

# By a value's whole path, or by its last key where that always means the same.
SHAPES: Final[dict[str, Schema]] = {
    "nameOverride": {"type": "string", "maxLength": 63},
    # A StatefulSet adds 11 characters to labels of at most 63.
    "fullnameOverride": {"type": "string", "maxLength": 52},
    "replicaCount": {"type": "integer", "minimum": 0, "maximum": 1},
    "image.registry": _TEXT,
    "image.repository": _TEXT,
    "image.tag": _TEXT,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": {
        "type": "array",
        "items": closed({"name": _reference("name")}, required=["name"]),
    },
    "existingSecret": _NAME,
    "apiTokenKey": _KEY,
    "passwordKey": _KEY,
    "secretKey": _KEY,
    "clientSecretKey": _KEY,
    "usernameKey": _reference("optionalKey"),
    "caKey": _KEY,
    "kafka.tls.caKey": _reference("optionalKey"),
    "certKey": _reference("optionalKey"),
    "keyKey": _reference("optionalKey"),
    "keyPasswordKey": _reference("optionalKey"),
    "operations.address": {"type": "string", "minLength": 1},
    "operations.port": _PORT,
    "webhook.address": {"type": "string", "minLength": 1},
    "webhook.port": _PORT,
    "webhook.tls.certKey": _KEY,
    "webhook.tls.keyKey": _KEY,
    "webhook.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "webhook.service.port": {"type": "integer", "minimum": 0, "maximum": 65535},
    "webhook.ingress.className": _NAME,
    "webhook.ingress.host": _NAME,
    "webhook.ingress.path": {"type": "string", "pattern": "^/"},
    "board.address": {"type": "string", "minLength": 1},
    "board.port": _PORT,
    "board.extraHosts": {
        "type": "array",
        # Without a port; a comma would make two of it.
        "items": {"type": "string", "pattern": "^[A-Za-z0-9._:-]+$"},
    },
    "board.service.port": _PORT,
    "board.ingress.className": _NAME,
    "board.ingress.host": _NAME,
    "enabled": _SWITCH,
    "namespace": _NAME,
    "labels": _STRINGS,
    "annotations": _STRINGS,
    "persistence.existingClaim": _NAME,
    "persistence.storageClass": _TEXT,
    "persistence.accessModes": {
        "type": "array",
        "minItems": 1,
        # With a mode for many, two pods on two nodes could open one outbox.
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod"]},
    },
    "persistence.size": {
        "type": "string",
        "pattern": "^[0-9]+(\\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$",
    },
    "serviceMonitor.interval": _DURATION,
    "serviceMonitor.scrapeTimeout": _DURATION,
    "serviceMonitor.relabelings": _OBJECTS,
    "serviceMonitor.metricRelabelings": _OBJECTS,
    "prometheusRule.alertLabels": _STRINGS,
    "prometheusRule.disabled": {"type": "array", "items": _TEXT},
    "prometheusRule.runbookUrl": {"type": "string", "pattern": "^https?://[^/]"},
    "prometheusRule.extraGroups": {
        "type": "array",
        "items": {"type": "object", "required": ["name", "rules"]},
    },
    "networkPolicy.ingressFrom": _OBJECTS,
    "networkPolicy.webhookFrom": _OBJECTS,
    "networkPolicy.boardFrom": _OBJECTS,
    "networkPolicy.egress": _OBJECTS,
    "networkPolicy.extraEgress": _OBJECTS,
    "podDisruptionBudget.maxUnavailable": {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": "^[0-9]+%$"},
        ]
    },
    "serviceAccount.create": _SWITCH,
    "serviceAccount.name": _NAME,
    "serviceAccount.automount": _SWITCH,
    "updateStrategy": closed(
        {"type": {"enum": ["RollingUpdate", "OnDelete"]}, "rollingUpdate": _OBJECT},
        required=["type"],
    ),
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 1},
    # Kubernetes takes no successThreshold but 1 for these two.
    "startupProbe": _probe(),
    "livenessProbe": _probe(),
    "readinessProbe": _probe(successThreshold={"type": "integer", "minimum": 1}),
    "resources": closed({"requests": _OBJECT, "limits": _OBJECT, "claims": _OBJECTS}),
    "podSecurityContext": _OBJECT,
    "securityContext": _OBJECT,
    "podAnnotations": _STRINGS,
    "podLabels": _STRINGS,
    "priorityClassName": _TEXT,
    "nodeSelector": _STRINGS,
    "tolerations": _OBJECTS,
    "affinity": _OBJECT,
    "topologySpreadConstraints": _OBJECTS,
    "extraEnv": _NAMED,
    "extraEnvFrom": _OBJECTS,
    "extraVolumes": _NAMED,
    "extraVolumeMounts": _NAMED,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
}
