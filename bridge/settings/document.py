"""
The page that lists every setting, made from what the settings say of themselves.

Owns the page's words and layout. A setting's own words stand where it is declared;
nothing of them is repeated here.

    python -m bridge.settings.document            writes docs/settings.md
    python -m bridge.settings.document --check    says whether it is stale; exits 1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from bridge.settings.catalogue import (
    SettingDescription,
    describe,
    describe_account,
    sections,
)


__all__ = ["build", "main"]

_HEAD: Final = """\
# Settings

<!-- Written by `make docs` from bridge/settings: change it there, not here. -->

A flag wins over the environment, the environment over the TOML file of `--config`,
the file over the default. In TOML the part of a name before the dot is a table:
`kafka.partitions` is `partitions` below `[kafka]`. Every variable is `BRIDGE_` and the
name in capitals. `bridge config show` prints what is in force and where it came from.

A secret is never a flag, and no output shows it. Beside its variable there is one with
`_FILE` at its end that names a file, in TOML a key with `_file`. The file is read again
when it changes.

An unknown name in the file or among the flags is an error that suggests the nearest.
In the environment it is a warning.
"""

_ACCOUNTS: Final = """\
## `[[accounts]]`

Several accounts in one bridge: the TOML file has one such table for each, in place of
`client_id`, `api_token` and `webhook.secret`, which must then be set nowhere. Each
account has a session of its own, and a refused one leaves the others running. Where
`webhook.listen` is set, webhooks are taken of those that have a webhook secret, each at
`/webhooks/dryapi/` and its client id.

```toml
[[accounts]]
client_id = "client-1"
api_token_file = "/run/secrets/client-1"
webhook_secret_file = "/run/secrets/client-1-webhooks"

[[accounts]]
client_id = "client-2"
api_token_file = "/run/secrets/client-2"

[webhook]
listen = "0.0.0.0:8443"
```
"""

_COLUMNS: Final = ("setting", "environment, flag", "default", "meaning")

# Larger units of bytes, as people read them.
_UNITS: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def build() -> str:
    """
    Make the page's text.

    Returns:
        Markdown, with a newline at its end.
    """
    blocks = [_HEAD]
    titles = sections()
    for name, members in groupby(describe(), key=_section):
        title, words = "At the top", "Above the tables of a TOML file."
        if name:
            title, words = f"`[{name}]`", f"{titles[name]}."
        blocks.append(f"## {title}\n\n{words}\n\n{_table(members)}")
        if not name:
            blocks.append(f"{_ACCOUNTS}\n{_table(iter(describe_account(1)))}")
    return "\n".join(blocks)


def _section(setting: SettingDescription) -> str:
    return setting.path.rpartition(".")[0]


def _table(members: Iterator[SettingDescription]) -> str:
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_row, members)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(setting: SettingDescription) -> tuple[str, ...]:
    names = [f"`{name}`" for name in setting.environment_names]
    if setting.flag is not None:
        names.append(f"`{setting.flag}`")
    meaning = f"{setting.description}. Must be {setting.expected}."
    if setting.because is not None:
        meaning += f" *Why this default:* {setting.because}."
    if not names:
        names = ["in the file alone"]
    cells = (f"`{setting.rules}`", "<br>".join(names), _default(setting), meaning)
    return tuple(cell.replace("|", "\\|") for cell in cells)


def _default(setting: SettingDescription) -> str:
    if setting.required:
        return "required" if setting.listed_at else "required, unless `[[accounts]]`"
    default = setting.default
    if default is None:
        return setting.default_text
    if setting.unit == "bytes" and isinstance(default, int):
        for factor, unit in _UNITS:
            if default % factor == 0:
                return f"`{default}` ({default // factor} {unit})"
    unit = {"seconds": " s", "ms": " ms"}.get(setting.unit or "", "")
    return f"`{setting.default_text}`{unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Write the page, or check that the one on disk is what would be written.

    Args:
        arguments: The command line without the program's name; None for the
            process's own.

    Returns:
        The exit code: 1 if `--check` found it stale.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bridge.settings.document",
        description="Write the page of settings.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if it is stale"
    )
    parser.add_argument(
        "--file",
        type=Path,
        default=Path("docs/settings.md"),
        help="where it stands (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    path: Path = options.file
    text = build()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    if options.check:
        sys.stdout.write(f"{path} is stale: run `make docs`\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{path} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
