"""The chart's values and their schema, without helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import yaml

from bridge import __version__
from bridge.settings import all_settings
from helm.schema import shape_of
from helm.values import variable
from tests.helm import chart


# What belongs to Kubernetes or to whoever installs; the chart passes it on.
_OPEN = {
    "affinity",
    "global",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "podSecurityContext",
    "securityContext",
}


def _validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(chart.schema())


def _merged(defaults: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over the defaults as helm does: mappings merge, the rest replaces."""
    merged = dict(defaults)
    for name, value in more.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = _merged(below, value)
        else:
            merged[name] = value
    return merged


def _tree(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: _tree(rest, value) if rest else value}


def test_schema_is_one_for_helm() -> None:
    """It is of draft 7, without the lookaround that Helm's RE2 doesn't know."""
    jsonschema.Draft7Validator.check_schema(chart.schema())
    text = (chart.CHART / "values.schema.json").read_text("utf-8")
    assert "(?" not in text


def test_defaults_conform() -> None:
    """The default values conform to the schema, which has no other names."""
    _validator().validate(chart.values())
    assert set(chart.schema()["properties"]) - {"global"} == set(chart.values())


def test_examples_conform() -> None:
    """Each example conforms to the schema when it is laid over the defaults."""
    for example in chart.examples().values():
        _validator().validate(_merged(chart.values(), example))


def test_schema_is_closed() -> None:
    """Every group of the chart's own refuses names that it doesn't know."""

    def groups(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        if schema.get("additionalProperties") is not False:
            yield path
        for name, below in schema.get("properties", {}).items():
            if below.get("type") == "object" and name not in _OPEN:
                yield from groups(below, f"{path}.{name}")

    assert list(groups(chart.schema(), "")) == [
        # Quantities, a strategy: Kubernetes' own.
        ".board.resources.requests",
        ".board.resources.limits",
        ".updateStrategy.rollingUpdate",
        ".resources.requests",
        ".resources.limits",
    ]


_WRONG: list[tuple[str, Any]] = [
    ("replicaCount", 2),
    ("unknown", 1),
    ("kafka.unknown", 1),
    ("kafka.sasl.password", "plain"),
    ("dryapi.apiToken", "plain"),
    ("dryapi.clientId", "a b"),
    ("dryapi.apiUrl", "api.dryapi.dev"),
    ("delivery", "sometimes"),
    ("pusher.url", "https://soketi.dryapi.dev"),
    ("topic", "a/b"),
    ("image.digest", "latest"),
    ("persistence.accessModes", ["ReadWriteMany"]),
    ("persistence.size", "lots"),
    ("livenessProbe.successThreshold", 2),
    ("log.level", "trace"),
    ("outbox.maxBytes", "8Gi"),
    ("board.extraHosts", ["one,two"]),
    ("board.sinceSeconds", -1),
    ("kafka.partitions", 0),
    ("kafka.requestTimeoutSeconds", 0),
]


def test_wrong_values_are_refused() -> None:
    """A value that can't be right fails the schema, at its own place."""
    missed = []
    for path, value in _WRONG:
        wrong = _merged(chart.values(), _tree(path, value))
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
    """Types, limits and words of a setting are those of its value."""
    settings = {setting.variables[0]: setting for setting in all_settings()}
    compared = 0
    for value in chart.listed():
        setting = settings.get(variable(value.path))
        if setting is None:
            continue
        shape = shape_of(value)
        for word, limit in (
            ("minimum", setting.minimum),
            ("exclusiveMinimum", setting.exclusive_minimum),
            ("maximum", setting.maximum),
        ):
            assert shape.get(word) == limit, value.path
            compared += limit is not None
        if setting.choices:
            assert set(shape["enum"]) - {""} == set(setting.choices)
            compared += 1
    assert compared > 30


def test_versions_agree() -> None:
    """The chart installs the version of the package beside it."""
    described = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))

    assert described["appVersion"] == __version__
