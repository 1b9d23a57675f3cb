"""
The root command's class: subcommands on demand, errors as lines, own help.

It is the frame around every command. What a command does is not known here.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from bridge.cli.failures import MissingExtraError, report, report_usage, telling
from bridge.errors import BridgeError, ExitCode


__all__ = ["BridgeGroup", "LazyCommand"]


class LazyCommand(msgspec.Struct, frozen=True):
    """
    A command that is imported when it is invoked.

    Attributes:
        target: `module:attribute`.
        help: Its line in the group's help, which doesn't import it.
        extra: The optional dependencies that it needs, or None.
    """

    target: str
    help: str
    extra: str | None = None


class BridgeGroup(click.Group):
    """The root command."""

    def __init__(
        self,
        *args: Any,
        lazy_commands: Mapping[str, LazyCommand] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._lazy = dict(lazy_commands or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the commands' names in the order of the table."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = lazy.target.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            self._explain(cmd_name, error)
            raise
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or name the nearest."""
        name = args[0]
        names = self.list_commands(ctx)
        # A name that looks like an option gets click's own words.
        if name not in names and not name.startswith("-"):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the list of commands, without importing them."""
        del ctx
        with formatter.section("Commands (none: run the bridge)"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog as it is, line by line."""
        del ctx
        formatter.write(self.epilog or "")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a missing optional package becomes an advice."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            self._explain(ctx.invoked_subcommand, error)
            raise

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
        arguments = (args, prog_name, complete_var)
        if not standalone_mode:
            return super().main(*arguments, standalone_mode=False, **extra)
        sys.exit(self._exit_code(*arguments, **extra))

    def _exit_code(
        self,
        args: Sequence[str] | None,
        prog_name: str | None,
        complete_var: str | None,
        **extra: Any,
    ) -> int:
        try:
            result = super().main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )
        except click.ClickException as error:
            return report_usage(error)
        except click.Abort:
            # Ctrl-C before or after a command's own handling of it.
            return int(ExitCode.CLEAN)
        except (BridgeError, BaseExceptionGroup) as error:
            told = telling(error)
            if told is None:
                raise
            if isinstance(told, KeyboardInterrupt):
                return int(ExitCode.CLEAN)
            return report(told)
        # click gives the code of `ctx.exit()` back as the result.
        return result if isinstance(result, int) else int(ExitCode.CLEAN)

    def _explain(self, name: str | None, error: ModuleNotFoundError) -> None:
        lazy = self._lazy.get(name or "")
        missing = (error.name or "").partition(".")[0]
        if lazy is None or lazy.extra is None or missing == "bridge":
            return
        raise MissingExtraError(
            f"`bridge {name}` needs the extra: "
            f"pip install 'dryapi-kafka-bridge[{lazy.extra}]' (no module {missing})"
        ) from error
