"""Alerts and dashboards name metrics and labels that the bridge has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from bridge.settings.model import by_path
from tests.helm import chart
from tests.operations.statistics import Statistics, families


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
