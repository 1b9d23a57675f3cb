"""
The root command's class: subcommands are imported on demand, errors become lines.

What a command does is not known here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from bridge.cli.failures import report, report_usage, to_report
from bridge.errors import BridgeError, ExitCode


__all__ = ["BridgeGroup", "LazyCommand"]


class LazyCommand(click.Command):
    """
    A command that is imported when it is invoked; help shows it without.

    Args:
        target: `module:attribute`.
        text: Its line in the help.
    """

    def __init__(self, target: str, text: str) -> None:
        super().__init__(None, short_help=text)
        self._target = target

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self._target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


class BridgeGroup(click.Group):
    """The root command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, LazyCommand):
            command = command.load()
        return name, command, rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's signature
        **extra: Any,
    ) -> Any:
        """
        Run the command line and exit.

        Args:
            args: The arguments; None takes the process's.
            prog_name: The command's name in messages.
            complete_var: As in click.
            standalone_mode: False leaves results and errors to the caller.
            extra: As in click.
        """

        def run() -> Any:
            extra["standalone_mode"] = False
            return super(BridgeGroup, self).main(args, prog_name, complete_var, **extra)

        if not standalone_mode:
            return run()
        try:
            result = run()
        except click.ClickException as error:
            sys.exit(report_usage(error))
        except click.Abort:
            # Ctrl-C before or after a command's own handling of it.
            sys.exit(ExitCode.CLEAN)
        except (BridgeError, BaseExceptionGroup) as error:
            reported = to_report(error)
            if isinstance(reported, BridgeError):
                sys.exit(report(reported))
            if reported is None:
                raise
            sys.exit(ExitCode.CLEAN)
        # click returns the code of `ctx.exit()` as the result.
        sys.exit(result if isinstance(result, int) else ExitCode.CLEAN)
