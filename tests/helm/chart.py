"""The chart's files as the tests read them, and helm where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from helm.__main__ import CHART


__all__ = ["CHART", "HELM", "examples", "merged", "refusal", "render", "schema", "tree"]

# The development tools have one, for some platforms.
_TOOLS = sysconfig.get_path("scripts")
HELM = shutil.which("helm", path=f"{_TOOLS}:{os.environ['PATH']}")


def values() -> dict[str, Any]:
    """Read the chart's default values."""
    return _mapping(CHART / "values.yaml")


def schema() -> dict[str, Any]:
    """Read the schema of the values."""
    read: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return read


def examples() -> dict[str, dict[str, Any]]:
    """Read the example values by file name."""
    return {path.name: _mapping(path) for path in sorted((CHART / "ci").glob("*.yaml"))}


def tree(path: str, value: Any) -> dict[str, Any]:
    """Nest a value under its path with dots."""
    first, _, rest = path.partition(".")
    return {first: tree(rest, value) if rest else value}


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others as helm does: mappings merge, the rest replaces."""
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            below = found.get(name)
            is_group = isinstance(value, Mapping) and isinstance(below, Mapping)
            found[name] = merged(below or {}, value) if is_group else value
    return found


def render(overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Let helm render the chart as release `bridge` in namespace `default`."""
    done = _template(overrides)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refusal(overrides: Mapping[str, Any]) -> str:
    """Give the message with which helm refuses values; empty if it renders."""
    return _template(overrides).stderr


def _template(overrides: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run(
        # By itself, helm assumes the cluster's version that it was built for.
        [
            *(HELM, "template", "bridge", str(CHART)),
            *("--values", "-", "--kube-version", "1.37"),
        ],
        input=json.dumps(overrides),
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )


def _mapping(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return read
