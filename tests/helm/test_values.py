"""The chart's values and their schema, without helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from bridge import __version__
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


def test_schema_is_one() -> None:
    """The schema is a valid JSON Schema of draft 7."""
    jsonschema.Draft7Validator.check_schema(chart.schema())


def test_defaults_conform() -> None:
    """The default values conform to the schema."""
    _validator().validate(chart.values())


@pytest.mark.parametrize("name", chart.examples())
def test_examples_conform(name: str) -> None:
    """Each example conforms to the schema when it is laid over the defaults."""
    _validator().validate(_merged(chart.values(), chart.examples()[name]))


def test_schema_knows_every_value() -> None:
    """Schema and defaults name the same values: none is missing, none is stale."""
    assert set(chart.schema()["properties"]) - {"global"} == set(chart.values())


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
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
        ("topic", ".."),
        ("image.digest", "latest"),
        ("persistence.accessModes", ["ReadWriteMany"]),
        ("persistence.size", "lots"),
        ("livenessProbe.successThreshold", 2),
        ("log.level", "trace"),
        ("outbox.maxBytes", "8Gi"),
        ("board.extraHosts", ["one,two"]),
        ("board.maxBrowsers", 0),
    ],
)
def test_wrong_value_is_refused(path: str, value: Any) -> None:
    """A value that can't be right fails the schema, at the place where it stands."""
    wrong = _merged(chart.values(), _tree(path, value))

    errors = list(_validator().iter_errors(wrong))

    assert len(errors) == 1
    place = ".".join(str(part) for part in errors[0].absolute_path)
    assert path.startswith(place) or place.startswith(path)


def test_versions_agree() -> None:
    """The chart installs the version of the package beside it."""
    described = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))

    assert described["appVersion"] == __version__
