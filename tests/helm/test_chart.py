"""The chart's values, schema, alerts and readiness, without helm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jsonschema
import yaml

from bridge import __version__
from bridge.settings import all_settings
from bridge.settings.model import by_path
from tests.helm import chart
from tests.operations.statistics import Statistics, families
from tests.schemas.scripted import Asked, Reply, ScriptedRegistry


DASHBOARDS = sorted((chart.CHART / "files" / "dashboards").glob("*.json"))

_METRIC = re.compile(r"\b((?:bridge|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"")
# What Prometheus adds to every metric that it reads.
_ADDED = {"job", "namespace", "instance"}


def _alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((chart.CHART / "files" / "rules.yaml").read_text("utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


def _exposed() -> dict[str, set[str]]:
    """Give the labels of every series of the bridge, by its name."""
    found: dict[str, set[str]] = {}
    for family in families(Statistics()).values():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _expressions() -> Iterator[tuple[str, str]]:
    for alert in _alerts():
        yield alert["alert"], alert["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_expressions_name_what_the_bridge_has() -> None:
    """Each metric in an alert or a panel is exposed, with the labels asked for."""
    exposed = _exposed()
    named = 0
    for where, expression in _expressions():
        for name, selector in _METRIC.findall(expression):
            named += 1
            if name.startswith("process_"):
                continue
            assert name in exposed, f"{where}: {name}"
            asked = set(_LABEL.findall(selector))
            assert asked <= exposed[name] | _ADDED, f"{where}: {name}"
    assert named > 50


def test_alerts_are_whole() -> None:
    """An alert has a severity, words, its place in the runbook, and the chart's job."""
    alerts = _alerts()
    for alert in alerts:
        name, annotations = alert["alert"], alert["annotations"]
        assert re.fullmatch(r"Bridge[A-Za-z]+", name)
        assert alert["labels"]["severity"] in {"critical", "warning"}, name
        assert annotations["summary"].endswith("."), name
        assert annotations["description"].endswith("."), name
        place = f"docs/operate/runbook.md#{name.lower()}"
        assert annotations["runbook_url"].endswith(place), name
        # The chart puts its own job in place of this one.
        selectors = [selector for _, selector in _METRIC.findall(alert["expr"])]
        assert selectors, name
        assert all('job="bridge"' in selector for selector in selectors), name
    assert len({alert["alert"] for alert in alerts}) == len(alerts) > 10
    # The number that the chart replaces by outbox.max_bytes is its default.
    limit = str(by_path()["outbox.max_bytes"].default)
    assert sum(limit in alert["expr"] for alert in alerts) == 1


SCRIPT = chart.CHART / "files" / "readiness.py"


def _serving(*codes: int) -> AbstractContextManager[ScriptedRegistry]:
    """Answer with these codes in turn, the last one from then on."""
    left = list(codes)

    def answer(_: Asked) -> Reply:
        code = left.pop(0) if len(left) > 1 else left[0]
        return Reply(code, f'{{"checks": "{code}"}}'.encode())

    return ScriptedRegistry(answer).serving()


def _ask(url: str, seconds: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url, seconds],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


def test_waits_until_the_bridge_is_ready() -> None:
    """It asks again while the answer is no, and prints the checks in the end."""
    with _serving(503, 200) as server:
        assert _ask(server.url, "20") == (0, '{"checks": "200"}\n', "")


def test_fails_with_the_reason_once_the_time_is_over() -> None:
    """It fails with the last answer's checks, or says that there is no answer."""
    with _serving(503) as server:
        url = server.url
        unready, _, checks = _ask(url, "0")
    absent, _, reason = _ask(url, "0")

    assert (unready, absent) == (1, 1)
    assert f'{url} returned 503: {{"checks": "503"}}' in checks
    assert f"{url} doesn't respond" in reason


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
