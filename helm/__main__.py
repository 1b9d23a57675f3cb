"""
Writes the chart's generated files, or says which of them is stale.

    python -m helm            writes values.schema.json and VALUES.md
    python -m helm --check    says what is stale; exits 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from helm import page, schema
from helm.values import CHART, ValuesError, read


__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the files, or check that those on disk are what would be written.

    Args:
        arguments: The command line without the program's name; None for the
            process's own.

    Returns:
        The exit code: 1 if `--check` found one stale, or values.yaml is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m helm", description="Write the chart's generated files."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one is stale"
    )
    parser.add_argument("--chart", type=Path, default=CHART, help="the chart's folder")
    options = parser.parse_args(arguments)
    chart: Path = options.chart
    try:
        values = read((chart / "values.yaml").read_text("utf-8"))
        made = {
            "values.schema.json": f"{json.dumps(schema.build(values), indent=2)}\n",
            "VALUES.md": page.build(values),
        }
    except ValuesError as error:
        sys.stdout.write(f"{chart / 'values.yaml'}: {error}\n")
        return 1
    stale = [name for name, text in made.items() if _on_disk(chart / name) != text]
    for name in stale:
        if options.check:
            sys.stdout.write(f"{chart / name} is stale: run `make chart`\n")
            continue
        (chart / name).write_text(made[name], "utf-8", newline="\n")
        sys.stdout.write(f"{chart / name} written\n")
    return 1 if options.check and stale else 0


def _on_disk(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
