"""Tests of several accounts: how the file lists them, what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.settings import Scope, load


TWO = """\
[[accounts]]
client_id = "one"
api_token = "token-1"

[[accounts]]
client_id = "two"
api_token = "token-2"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A TOML file with two accounts."""
    file = tmp_path / "bridge.toml"
    file.write_text(TWO)
    return file


def problems(
    file: Path,
    toml: str,
    environ: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
) -> list[str]:
    """Load the file with this content and return the lines of the error."""
    file.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ or {}, file)
    return str(caught.value).split("\n")


def test_listed_accounts_are_all_accounts(file: Path) -> None:
    """They come in the file's order, and the single account is none."""
    settings = load({}, {}, file).settings
    found = [(one.client_id, one.api_token.reveal()) for one in settings.all_accounts]
    assert found == [("one", "token-1"), ("two", "token-2")]
    assert [one.client_id for one in settings.accounts] == ["one", "two"]
    assert settings.client_id is None
    assert settings.api_token is None


_BESIDE_A_LIST: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({"BRIDGE_CLIENT_ID": "x"}, {}, "client_id (BRIDGE_CLIENT_ID, --client-id)"),
    ({"BRIDGE_API_TOKEN": "x"}, {}, "api_token (BRIDGE_API_TOKEN or"),
    ({"BRIDGE_API_TOKEN_FILE": "/x"}, {}, "api_token (BRIDGE_API_TOKEN or"),
    ({}, {"client_id": "x"}, "client_id (BRIDGE_CLIENT_ID, --client-id)"),
]


def test_the_single_account_beside_a_list_is_refused(
    subtests: pytest.Subtests, file: Path
) -> None:
    """The line names both places, whichever layer the single account is in."""
    for environ, flags, place in _BESIDE_A_LIST:
        with subtests.test(environ=environ, flags=flags):
            (line,) = problems(file, TWO, environ, flags)
            by = "the flag --client-id" if flags else "the environment"
            assert line.startswith(place)
            assert f"is set by {by}, but the file" in line


def test_an_empty_variable_excludes_no_list(file: Path) -> None:
    """What a compose file hands on as nothing is nothing."""
    environ = {"BRIDGE_CLIENT_ID": "", "BRIDGE_API_TOKEN_FILE": ""}
    assert len(load({}, environ, file).settings.all_accounts) == 2


_GOOD = 'client_id = "c"\napi_token = "t"\n'


_WRONG_LISTS: list[tuple[str, str, str]] = [
    ("accounts = []", "accounts in", "is an empty list"),
    ("accounts = 5", "accounts in", "write [[accounts]]"),
    (f"[accounts]\n{_GOOD}", "accounts in", "must be a list of tables"),
    ("accounts = [5]", "accounts[1] in", "must be a table"),
    (
        '[[accounts]]\napi_token = "t"',
        "accounts[1].client_id (number 1 of [[accounts]]) is missing:",
        "dashboard",
    ),
    (
        f'[[accounts]]\n{_GOOD}[[accounts]]\nclient_id = "d"',
        "accounts[2].api_token (number 2 of [[accounts]]) is missing:",
        "set api_token or api_token_file to",
    ),
    (
        f'[[accounts]]\n{_GOOD}client_idd = "d"',
        "accounts[1].client_idd (number 1 of [[accounts]])",
        "did you mean accounts[1].client_id?",
    ),
    (
        f'[[accounts]]\n{_GOOD}zzz = "d"',
        "accounts[1].zzz (number 1 of [[accounts]])",
        "an account has client_id, api_token, api_token_file, webhook_secret,",
    ),
    (
        '[[accounts]]\nclient_id = ""\napi_token = "t"',
        "accounts[1].client_id (number 1 of [[accounts]]) must be",
        'has ""',
    ),
    (
        '[[accounts]]\nclient_id = 5\napi_token = "t"',
        "accounts[1].client_id (number 1 of [[accounts]]) must be",
        "185 letters",
    ),
    (
        '[[accounts]]\nclient_id = "c"\napi_token = "a b"',
        "accounts[1].api_token (number 1 of [[accounts]]) must be",
        "not shown",
    ),
    (
        '[[accounts]]\nclient_id = "c"\napi_token_file = "/nowhere/token"',
        "accounts[1].api_token (number 1 of [[accounts]]) must be",
        "the file that accounts[1].api_token_file in",
    ),
    (
        f'[[accounts]]\n{_GOOD}api_token_file = "/nowhere/token"',
        "accounts[1].api_token (number 1 of [[accounts]]) is set twice",
        "as accounts[1].api_token and as accounts[1].api_token_file",
    ),
    (
        f"{TWO}[[accounts]]\n{_GOOD}".replace('"c"', '"one"'),
        "accounts[3].client_id (number 3 of [[accounts]])",
        "is that of accounts[1].client_id",
    ),
]


def test_what_is_wrong_with_a_list_is_one_line(
    subtests: pytest.Subtests, file: Path
) -> None:
    """It names the place, counted from 1, the file, and what would be right."""
    for toml, start, words in _WRONG_LISTS:
        with subtests.test(toml=toml, start=start):
            (line,) = problems(file, toml)
            assert line.startswith(start)
            assert words in line


def test_only_a_file_lists_accounts() -> None:
    """A variable is ignored with a warning, and a flag there is none."""
    environ = {
        "BRIDGE_CLIENT_ID": "c",
        "BRIDGE_API_TOKEN": "t",
        "BRIDGE_ACCOUNTS": "canary",
    }
    loaded = load({}, environ, None)
    (warning,) = loaded.warnings
    assert warning.startswith("the environment variable BRIDGE_ACCOUNTS isn't a")
    assert "canary" not in warning
    assert len(loaded.settings.all_accounts) == 1
    with pytest.raises(ConfigError, match="there is no flag for accounts"):
        load({"accounts": "canary"}, environ, None)


def test_a_reader_neither_needs_nor_judges_accounts(file: Path) -> None:
    """A token that only the service can read keeps no user from reading a topic."""
    file.write_text('[[accounts]]\napi_token_file = "/only/the/service"\n')
    settings = load({}, {"BRIDGE_CLIENT_ID": "c"}, file, Scope.READING).settings
    assert settings.all_accounts == ()
    file.write_text("[[accounts]]\nclient_idd = 5\n")
    with pytest.raises(ConfigError, match=r"did you mean accounts\[1\]\.client_id"):
        load({}, {}, file, Scope.READING)
