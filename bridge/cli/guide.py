"""
The text of `bridge --help`, for somebody who sees the bridge for the first time.

Names, defaults and descriptions come from the settings; only the words that
join them stand here.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from bridge.settings import all_settings


__all__ = ["write"]

# What most set-ups need beside the flags; `bridge config show` lists the rest.
_MAIN = (
    "kafka.security_protocol",
    "kafka.sasl_mechanism",
    "kafka.sasl_username",
    "kafka.sasl_password",
    "kafka.create_topics",
    "webhook.listen",
    "webhook.secret",
    "operations.listen",
    "log.format",
    "log.level",
)

_EXIT_CODES = (
    ("0", "stopped as asked (SIGTERM, Ctrl-C)"),
    ("1", "anything not named below"),
    ("2", "wrong use or a wrong setting"),
    ("3", "dryAPI refuses: bad token, unknown app key"),
    ("4", "Kafka refuses or was never reached: sign-in, rights, topic"),
)

_EXAMPLE = """\
export BRIDGE_CLIENT_ID=... BRIDGE_API_TOKEN_FILE=/run/secrets/dryapi-token
bridge --topic jobs --bootstrap-servers kafka-1:9092,kafka-2:9092
bridge tail --topic jobs --bootstrap-servers kafka-1:9092"""


def write(
    command: click.Group,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    commands: Sequence[tuple[str, str]],
) -> None:
    """
    Write the help.

    Args:
        command: The root command.
        ctx: Its context.
        formatter: What is written to.
        commands: Names and lines of the subcommands.
    """
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    with formatter.section("Example"):
        for line in _EXAMPLE.splitlines():
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
    with formatter.section("Commands (none: run the bridge)"):
        formatter.write_dl([*commands])
    _write_flags(command, ctx, formatter)
    _write_environment(formatter)
    with formatter.section("Exit codes"):
        formatter.write_dl([*_EXIT_CODES])


def _write_flags(
    command: click.Group, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    records = [
        record
        for parameter in command.get_params(ctx)
        if (record := parameter.get_help_record(ctx)) is not None
    ]
    with formatter.section("Flags"):
        formatter.write_dl(records)


def _write_environment(formatter: click.HelpFormatter) -> None:
    rows = []
    for setting in all_settings():
        if setting.required:
            names = " or ".join(setting.variables)
            rows.append((names, f"{setting.description}. [required]"))
        elif setting.path in _MAIN:
            names = setting.variables[0]
            if setting.is_secret:
                names += "[_FILE]"
            words = setting.description
            if setting.choices:
                words += f": {', '.join(setting.choices)}"
            rows.append((names, f"{words}. [default: {setting.default_text}]"))
    with formatter.section("Environment"):
        formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text(
            "Every setting is BRIDGE_ and its path in capitals, or stands in the TOML "
            "file of --config; a secret is never a flag. "
            "`bridge config show` lists all of them with their values. "
            "In place of one client id and token the file may list several "
            "[[accounts]], each with client_id and api_token_file, and "
            "webhook_secret_file."
        )
