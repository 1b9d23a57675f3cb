"""
Writes the chart's generated files, or reports which of them is stale.

    python -m helm            writes values.schema.json and files/settings.yaml
    python -m helm --check    reports what is stale; exits with 1
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import yaml

from bridge.settings import all_settings
from bridge.settings.checks import RELATIONS
from helm import schema


__all__ = ["CHART", "main"]

CHART: Final = Path(__file__).parent / "bridge"

_HEAD: Final = "# Written by `make chart` from bridge/settings: change it there.\n"


def main(arguments: Sequence[str], chart: Path = CHART) -> int:
    """
    Write the files, or check that those on disk are what would be written.

    Args:
        arguments: `--check` or nothing.
        chart: The chart's directory.

    Returns:
        The exit code: 1 if `--check` found a stale file.
    """
    values = yaml.safe_load((chart / "values.yaml").read_text("utf-8"))
    made = {
        "values.schema.json": f"{json.dumps(schema.build(values), indent=2)}\n",
        "files/settings.yaml": _HEAD + _settings(),
    }
    stale = [name for name, text in made.items() if _on_disk(chart / name) != text]
    for name in stale:
        if "--check" in arguments:
            sys.stdout.write(f"{chart / name} is stale: run `make chart`\n")
            continue
        (chart / name).write_text(made[name], "utf-8", newline="\n")
        sys.stdout.write(f"{chart / name} written\n")
    return 1 if "--check" in arguments and stale else 0


def _settings() -> str:
    """Return what the templates have to know of the settings."""
    known = all_settings()
    facts = {
        "defaults": {one.path: one.default for one in known if one.default is not None},
        "secrets": [one.path for one in known if one.is_secret],
        "relations": [
            {name: value for name, value in msgspec.to_builtins(one).items() if value}
            for one in RELATIONS
        ],
    }
    return yaml.safe_dump(facts, default_flow_style=None, sort_keys=False, width=200)


def _on_disk(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
