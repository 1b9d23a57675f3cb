"""The entry of `bridge` and `python -m bridge`: hands over to the command line."""

from __future__ import annotations

import sys

from bridge.cli import root
from bridge.cli.failures import show_defect


__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.excepthook = show_defect
    root.main(prog_name="bridge")


if __name__ == "__main__":
    main()
