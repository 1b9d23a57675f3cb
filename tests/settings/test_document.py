"""The page of settings is what the settings say today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.settings import describe, load
from bridge.settings.catalogue import describe_account
from bridge.settings.document import build, main


_PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_on_disk_is_current() -> None:
    """The committed page is what the settings say today."""
    assert _PAGE.read_text(encoding="utf-8") == build()


def test_every_setting_is_on_the_page_with_all_its_names() -> None:
    """Each setting has one row with its path, variables, flag, meaning and reason."""
    page, _, rest = build().partition("## `[[accounts]]`")
    page += rest.partition("\n## ")[2]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(describe())
    for setting, row in zip(describe(), rows, strict=True):
        path, names, default, meaning = row.strip("| ").split(" | ")
        assert path == f"`{setting.path}`"
        flags = (setting.flag,) if setting.flag else ()
        expected = [f"`{name}`" for name in (*setting.environment_names, *flags)]
        assert names.split("<br>") == expected
        assert default
        assert setting.description in meaning
        assert setting.because is None or setting.because in meaning


def test_the_settings_of_listed_accounts_have_a_table_and_an_example(
    tmp_path: Path,
) -> None:
    """Each has a row, and what the page shows is accepted as it is."""
    section = build().partition("## `[[accounts]]`")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == len(describe_account(1))
    for setting, row in zip(describe_account(1), rows, strict=True):
        default = "required" if setting.required else "none"
        assert row.startswith(f"| `{setting.rules}` | in the file alone | {default} |")
        assert setting.description in row
    (example,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    for name in ("client-1", "client-2", "client-1-webhooks"):
        (tmp_path / name).write_text(f"token of {name}".replace(" ", "-"))
    file = tmp_path / "bridge.toml"
    file.write_text(example.replace("/run/secrets", str(tmp_path)))
    accounts = load({}, {}, file).settings.all_accounts
    assert [account.client_id for account in accounts] == ["client-1", "client-2"]
    assert [account.webhook_secret is None for account in accounts] == [False, True]


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("client_id", "required, unless `[[accounts]]`"),
        ("topic", "`jobs`"),
        ("outbox.max_bytes", "`8589934592` (8 GiB)"),
        ("kafka.request_timeout_seconds", "`20` s"),
        ("log.format", "console on a terminal, else json"),
        ("kafka.create_topics", "`false`"),
    ],
)
def test_defaults_are_readable(path: str, default: str) -> None:
    """A default is shown as it is written, with its unit, or in words."""
    row = next(line for line in build().splitlines() if line.startswith(f"| `{path}`"))
    assert row.split(" | ")[2] == default


def test_check_finds_a_stale_page_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` writes nothing and exits with 1 until the page is written."""
    page = tmp_path / "docs" / "settings.md"
    arguments = ["--file", str(page)]

    assert main([*arguments, "--check"]) == 1
    assert "run `make docs`" in capsys.readouterr().out
    assert not page.exists()
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    page.write_text("old", encoding="utf-8")
    assert main([*arguments, "--check"]) == 1
    assert page.read_text(encoding="utf-8") == "old"
