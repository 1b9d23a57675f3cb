"""The entry of `bridge` and `python -m bridge`: hands over to the command line."""

from __future__ import annotations

from bridge.cli import root


__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    root.main(prog_name="bridge")


if __name__ == "__main__":
    main()
