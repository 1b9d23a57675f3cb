"""
Writes the chart's generated files, or reports which of them is stale.

    python -m helm            writes values.schema.json and files/settings.yaml
    python -m helm --check    reports what is stale; exits with 1
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import msgspec
import yaml

from bridge.generated import write_or_check
from bridge.settings import all_settings
from bridge.settings.checks import RELATIONS
from helm import schema


__all__ = ["CHART"]

CHART: Final = Path(__file__).parent / "bridge"

_HEAD: Final = "# Written by `make chart` from bridge/settings: change it there.\n"


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


if __name__ == "__main__":
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    made = {
        CHART / "values.schema.json": f"{json.dumps(schema.build(values), indent=2)}\n",
        CHART / "files" / "settings.yaml": _HEAD + _settings(),
    }
    sys.exit(write_or_check(made, "make chart"))
