"""Secrets: the value that must not be seen, in any message or repr."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import msgspec
import pytest
import structlog

from bridge.errors import ConfigError
from bridge.settings import Secret, inspect, load
from tests.settings.starts import CANARY


def write(file: Path, text: str, *, at: int) -> None:
    """Write a file and give it a modification time of its own."""
    file.write_text(text)
    os.utime(file, ns=(at, at))


def test_it_shows_itself_to_nothing_but_reveal() -> None:
    """No text is made of it, and it can't leave the process through a serializer."""
    secret = Secret(CANARY)
    texts = (f"{secret!r} {secret!s} {secret} {secret!r:>20} {secret:>20}", str(secret))
    for text in (*texts, "%s" % secret):  # noqa: UP031 - one of the ways
        assert "***" in text
        assert CANARY not in text
    assert secret.reveal() == CANARY
    for leave in (pickle.dumps, copy.deepcopy, msgspec.json.encode, hash):
        with pytest.raises(TypeError):
            leave(secret)


def test_a_replaced_link_is_read_again(tmp_path: Path) -> None:
    """Kubernetes' way, a link moved to another folder, gives the new value."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "token", f"from-{name}", at=1)
    link = tmp_path / "data"
    link.symlink_to("a")
    secret = Secret.from_file(link / "token")
    assert secret.reveal() == "from-a"
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").rename(link)
    assert secret.reveal() == "from-b"


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """Without a change of the file the value is not taken from disk."""
    file = tmp_path / "token"
    write(file, "first", at=1)
    secret = Secret.from_file(file)
    # Same size, same node, same time: only a second reading could show it.
    write(file, "FIRST", at=1)
    assert secret.reveal() == "first"


def test_an_invalid_file_leaves_the_value(tmp_path: Path) -> None:
    """A file gone, empty or invalid keeps the last value; the next good one counts."""
    file = tmp_path / "token"
    write(file, "first", at=1)
    secret = Secret.from_file(file, accepts=lambda text: " " not in text)
    values = []
    for at, unfit in enumerate((None, "", "two words"), 2):
        if unfit is None:
            file.unlink()
        else:
            write(file, unfit, at=at)
        values += [secret.reveal(), secret.reveal()]
    assert values == ["first"] * 6
    write(file, "second", at=9)
    assert secret.reveal() == "second"


@pytest.mark.timeout(10)
def test_a_fifo_in_the_files_place_does_not_block(tmp_path: Path) -> None:
    """Opening one waits for a writer; the last value stays, with a warning."""
    file = tmp_path / "token"
    write(file, "first", at=1)
    secret = Secret.from_file(file)
    file.unlink()
    os.mkfifo(file)
    with structlog.testing.capture_logs() as lines:
        assert secret.reveal() == secret.reveal() == "first"
    (line,) = lines
    assert line["event"] == "secret.unreadable"
    assert line["reason"] == "can't be read: it is not a regular file"
    file.unlink()
    write(file, "second", at=2)
    assert secret.reveal() == "second"


def test_one_line_end_is_no_part_of_the_value(tmp_path: Path) -> None:
    """What editors write at the end is dropped, spaces of a password stay."""
    file = tmp_path / "password"
    for ending in ("", "\n", "\r\n"):
        file.write_bytes(f" pass word {ending}".encode())
        assert Secret.from_file(file).reveal() == " pass word "


def test_an_unusable_file_is_an_error_without_content_and_path(tmp_path: Path) -> None:
    """The error says what is wrong; a token in a path's place is not repeated."""
    file = tmp_path / CANARY
    table: list[tuple[Path, bytes | None, str]] = [
        (file, b"", "is empty"),
        (file, b" \n", "is empty"),
        (file, b"canary-7d1f\xff", "not UTF-8"),
        (file, b"canary-7d1f" * 10_000, "larger than"),
        (tmp_path / f"{CANARY}-2", None, "No such file"),
        (tmp_path / f"{CANARY}\0b", None, "no valid name"),
        (tmp_path, None, "Is a directory"),
        (Path("/dev/zero"), None, "is not a regular file"),
    ]
    wrong = []
    for path, content, words in table:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            Secret.from_file(path)
        error = caught.value
        shown = error.__cause__ or (
            not error.__suppress_context__ and error.__context__
        )
        if words not in str(error) or CANARY in str(error) or shown:
            wrong.append((content, str(error), shown))
    assert not wrong


def test_each_value_is_hidden_before_anybody_has_it(tmp_path: Path) -> None:
    """A redactor gets the first value, and each that the file has later."""
    file = tmp_path / "token"
    write(file, "first", at=1)
    secret = Secret.from_file(file, accepts=str.isalpha)
    hidden: list[str] = []
    secret.hide_with(hidden.append)
    assert hidden == ["first"]
    write(file, "second", at=2)
    assert secret.reveal() == "second"
    write(file, "un fit", at=3)
    assert secret.reveal() == "second"
    assert hidden == ["first", "second"]


_WRONG: list[tuple[dict[str, str], str | None]] = [
    ({"API_TOKEN": f"{CANARY} x"}, None),
    ({"API_TOKEN": f"{CANARY}\n"}, None),
    ({"API_TOKEN": f"{CANARY}é"}, None),
    ({"API_TOKEN": f"{CANARY}\udcff"}, None),
    ({"API_TOKEN_FILE": CANARY}, None),
    ({"API_TOKEN_FILE": f"/run/{CANARY}"}, None),
    ({"API_TOKEN": CANARY, "API_TOKEN_FILE": CANARY}, None),
    ({"WEBHOOK_SECRET": CANARY}, None),
    ({"WEBHOOK_LISTEN": "h:1", "WEBHOOK_SECRET": f"whsec_a {CANARY}é"}, None),
    ({"WEBHOOK_LISTEN": "h:1", "WEBHOOK_SECRET_FILE": CANARY}, None),
    ({"WEBHOOK_TLS_KEY_FILE": f"-----BEGIN KEY-----\n{CANARY}"}, None),
    ({"KAFKA_SSL_KEY_FILE": f"-----BEGIN KEY-----\n{CANARY}"}, None),
    ({"CLIENT_ID": f"{CANARY}|x"}, None),
    ({"KAFKA_SASL_USERNAME": f"{CANARY}\t"}, None),
    ({"PUSHER_APP_KEY": f"{CANARY} x"}, None),
    ({"API_URL": f"https://user:{CANARY}@host"}, None),
    ({"PUSHER_URL": f"wss://{CANARY}@host"}, None),
    ({"KAFKA_BOOTSTRAP_SERVERS": f"user:{CANARY}@host:1"}, None),
    ({}, f'api_token = ["{CANARY}"]'),
    ({}, f'api_token = {{value = "{CANARY}"}}'),
    ({}, f'api_token_file = "{CANARY}"'),
    ({}, f'api_token_file = ["{CANARY}"]'),
    ({}, f'api_tokn = "{CANARY}"'),
    ({}, f'[api_token]\nvalue = "{CANARY}"'),
    ({}, f'api_token = "{CANARY}'),
    ({}, f"api_token = {CANARY}"),
    ({}, f'api_token = """{CANARY}'),
    ({}, f'[kafka]\nsasl_password = "{CANARY}"\nsasl_password = "{CANARY}"'),
    ({}, f'[kafka]\nsasl_password = ["{CANARY}"]'),
    ({}, f'[kafka]\nsasl_password = "{CANARY}"'),
    ({}, f'kafka = "{CANARY}"'),
    ({}, f'accounts = "{CANARY}"'),
    ({}, f'accounts = ["{CANARY}"]'),
    ({}, f'[accounts]\napi_token = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY} x"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token = ["{CANARY}"]'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token_file = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_tokn = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "{CANARY}|x"\napi_token = "t"'),
    ({}, f'[[accounts]]\nclient_id = "c"\nwebhook_secret = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\nwebhook_secret = ["{CANARY}"]'),
    ({}, f'[[accounts]]\napi_token = "{CANARY}"\napi_token_file = "{CANARY}"'),
    (
        {},
        2 * f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY}"\n',
    ),
    (
        {"API_TOKEN": CANARY, "CLIENT_ID": CANARY},
        f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY}"',
    ),
]


def test_no_problem_shows_a_secret(subtests: pytest.Subtests, tmp_path: Path) -> None:
    """A secret wrong, misplaced or half written is in no message."""
    for environ, toml in _WRONG:
        with subtests.test(environ=environ, toml=toml):
            variables = {f"BRIDGE_{name}": value for name, value in environ.items()}
            file = None
            if toml is not None:
                file = tmp_path / "bridge.toml"
                file.write_text(toml)
            inspection = inspect({}, variables, file)
            assert inspection.problems
            shown = repr(inspection) + "".join(inspection.problems)
            assert CANARY not in shown
            with pytest.raises(ConfigError) as caught:
                load({}, variables, file)
            error: BaseException | None = caught.value
            while error is not None:
                assert CANARY not in str(error)
                error = error.__cause__
