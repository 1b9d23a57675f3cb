"""The chart's files as the tests read them, and helm where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from helm.values import CHART, Value, read


__all__ = [
    "CHART",
    "HELM",
    "examples",
    "leaves",
    "listed",
    "render",
    "schema",
    "values",
]

# The Makefile names the helm that `make chart-tools` built.
HELM = os.environ.get("HELM") or shutil.which("helm")


def values() -> dict[str, Any]:
    """Read the chart's default values."""
    return _mapping(CHART / "values.yaml")


def listed() -> tuple[Value, ...]:
    """List the values with their defaults and comments."""
    return read((CHART / "values.yaml").read_text("utf-8"))


def schema() -> dict[str, Any]:
    """Read the schema of the values."""
    read: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return read


def examples() -> dict[str, dict[str, Any]]:
    """Read the example values by file name."""
    return {path.name: _mapping(path) for path in sorted((CHART / "ci").glob("*.yaml"))}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give every value that is no mapping, by its path with dots."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def render(overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Let helm render the chart as release `bridge` in namespace `default`."""
    assert HELM is not None
    done = subprocess.run(
        # A helm that `go install` built takes 1.20 for the cluster's version.
        [
            *(HELM, "template", "bridge", str(CHART)),
            *("--values", "-", "--kube-version", "1.37"),
        ],
        input=json.dumps(overrides),
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def _mapping(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return read
