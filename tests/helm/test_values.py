"""The chart's values and their schema, without helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import yaml

from bridge import __version__
from bridge.settings import all_settings
from tests.helm import chart


# What belongs to Kubernetes or to the operator; the chart passes it on.
_OPEN = {
    "affinity",
    "global",
    "podSecurityContext",
    "securityContext",
    "requests",
    "limits",
    "rollingUpdate",
}


def _validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(chart.schema())


def test_schema_is_one_for_helm() -> None:
    """It is of draft 7, without the lookaround that Helm's RE2 doesn't know."""
    jsonschema.Draft7Validator.check_schema(chart.schema())
    assert "(?" not in (chart.CHART / "values.schema.json").read_text("utf-8")


def test_defaults_and_examples_conform() -> None:
    """Default values and examples conform to the schema, which has no other names."""
    for example in ({}, *chart.examples().values()):
        _validator().validate(chart.merged(chart.values(), example))
    assert set(chart.schema()["properties"]) - {"global"} == set(chart.values())


def test_schema_is_closed() -> None:
    """Every group of the chart's own refuses names that it doesn't know."""

    def open_groups(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        if schema.get("additionalProperties", True) is True:
            yield path
        for name, below in schema.get("properties", {}).items():
            if below.get("type") == "object":
                yield from open_groups(below, f"{path}.{name}")

    found = {path.rpartition(".")[2] for path in open_groups(chart.schema(), "")}
    assert found == _OPEN


_WRONG: list[tuple[str, Any]] = [
    ("replicaCount", 2),
    ("unknown", 1),
    ("image.digest", "latest"),
    ("persistence.accessModes", ["ReadWriteMany"]),
    ("persistence.size", "lots"),
    ("livenessProbe.successThreshold", 2),
    ("podLabels.on", True),
    ("settings.kafka.unknown", 1),
    ("settings.outbox.dir", "/data"),
    ("settings.kafka.sasl_password", "plain"),
    ("settings.api_token", "plain"),
    ("settings.webhook.secret", {"existingSecret": "x"}),
    ("settings.client_id", "a b"),
    ("settings.api_url", "api.dryapi.dev"),
    ("settings.delivery", "sometimes"),
    ("settings.pusher.url", "https://soketi.dryapi.dev"),
    ("settings.topic", "a/b"),
    ("settings.operations.listen", "8080"),
    ("settings.log.level", "trace"),
    ("settings.outbox.max_bytes", "8Gi"),
    ("settings.board.since_seconds", -1),
    ("settings.kafka.partitions", 0),
    ("settings.reconciliation.stale_after_seconds", 0),
    ("settings.accounts", [{"client_id": "a"}]),
]


def test_wrong_values_are_refused() -> None:
    """A value that can't be right fails the schema, at its own place."""
    missed = []
    for path, value in _WRONG:
        wrong = chart.merged(chart.values(), chart.tree(path, value))
        places = [
            ".".join(map(str, error.absolute_path))
            for error in _validator().iter_errors(wrong)
        ]
        if len(places) != 1 or not (
            path.startswith(places[0]) or places[0].startswith(path)
        ):
            missed.append((path, value, places))
    assert missed == []


def test_limits_are_the_settings() -> None:
    """The schema has limits and choices of each setting, as the bridge checks them."""
    settings = chart.schema()["properties"]["settings"]["properties"]
    compared = 0
    for setting in all_settings():
        if setting.path == "outbox.dir":
            continue
        place = settings
        for section in filter(None, [setting.section]):
            place = place[section]["properties"]
        shape = place[setting.name]
        assert shape.get("minimum") == setting.minimum, setting.path
        assert shape.get("exclusiveMinimum") == setting.exclusive_minimum, setting.path
        assert shape.get("maximum") == setting.maximum, setting.path
        assert tuple(shape.get("enum", ())) == setting.choices, setting.path
        compared += bool(shape.keys() & {"minimum", "exclusiveMinimum", "enum"})
    assert compared > 20


def test_versions_agree() -> None:
    """The chart installs the version of the package beside it."""
    described = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))

    assert described["appVersion"] == __version__
