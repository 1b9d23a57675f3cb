"""
Writes the page of all settings, `docs/reference/settings.md`, from their declarations.

    python -m bridge.settings.document            writes the page
    python -m bridge.settings.document --check    exits with 1 if it is stale
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Final

from bridge.errors import DOCS_URL
from bridge.generated import table, write_or_check
from bridge.settings.model import account_settings, all_settings, sections
from bridge.settings.setting import Setting


__all__ = ["build"]

_PAGE: Final = Path("docs/reference/settings.md")

_HEAD: Final = """\
# Settings

<!-- Written by `make docs` from bridge/settings: change it there, not here. -->

A flag overrides the environment, the environment overrides the TOML file of `--config`,
and the file overrides the default. In TOML the part of a name before the dot is a
table: `kafka.partitions` is `partitions` below `[kafka]`. Its variable is
`BRIDGE_KAFKA_PARTITIONS`. `bridge config` prints the effective values and their
sources.

A secret is never a flag, and no output shows it. It can be in a file, which the bridge
reads again when it changes: the file's variable ends with `_FILE`, its key in TOML with
`_file`.

An unknown name in the file or among the flags is an error with the nearest name. In the
environment it is a warning.
"""

_ACCOUNTS: Final = """\
## `[[accounts]]`

The TOML file has one such table for each account, in place of `client_id`, `api_token`
and `webhook.secret`, which must then not be set. An account with a webhook secret sends
its webhooks to `/webhooks/dryapi/` and its client id.

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

_COLUMNS: Final = ("setting", "default", "accepts", "meaning")

# The pages that descriptions cite.
_LINK: Final = re.compile(re.escape(DOCS_URL) + r"/([\w/-]+\.md)")


def build() -> str:
    """Return the page's Markdown."""
    blocks = [_HEAD]
    for name, members in groupby(all_settings(), key=lambda setting: setting.section):
        title = f"`[{name}]`" if name else "At the top"
        words = "Above the tables of a TOML file"
        if name:
            docstring = sections()[name].__doc__ or ""
            words = docstring.strip().partition("\n")[0].removesuffix(".")
        blocks.append(f"## {title}\n\n{words}.\n\n{_table(members)}")
        if not name:
            blocks.append(f"{_ACCOUNTS}\n{_table(account_settings(1))}")
    return "\n".join(blocks)


def _table(members: Iterable[Setting]) -> str:
    settings = list(members)
    text = table(_COLUMNS, [*map(_row, settings)])
    reasons = [
        f"- `{setting.name}`: {_link(setting.because)}.\n"
        for setting in settings
        if setting.because is not None
    ]
    if reasons:
        text += "\nReasons for defaults:\n\n" + "".join(reasons)
    return text


def _row(setting: Setting) -> tuple[str, ...]:
    path = setting.name if setting.account else setting.path
    names = "<br>".join(f"`{name}`" for name in (path, *setting.flags))
    # What follows a colon is for the error of a value that isn't accepted.
    accepts = setting.expected.partition(": ")[0]
    return names, _default(setting), accepts, f"{_link(setting.description)}."


def _link(text: str) -> str:
    return _LINK.sub(r"[\1](../\1)", text)


def _default(setting: Setting) -> str:
    if setting.required:
        return "required" if setting.account else "required, unless `[[accounts]]`"
    if (default := setting.default) is None:
        return setting.default_text
    unit = {"seconds": " s", "ms": " ms"}.get(setting.unit or "", "")
    return f"`{setting.default_text}`{unit}{setting.size_in_words(default)}"


if __name__ == "__main__":
    sys.exit(write_or_check({_PAGE: build()}, "make docs"))
