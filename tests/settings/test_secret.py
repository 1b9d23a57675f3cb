"""Tests of the value that must not be seen."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import msgspec
import pytest

from bridge.errors import ConfigError
from bridge.settings import Secret


CANARY = "canary-7d1f"


def write(file: Path, text: str, *, at: int) -> None:
    """Write a file and give it a modification time of its own."""
    file.write_text(text)
    os.utime(file, ns=(at, at))


@pytest.mark.parametrize(
    "shown",
    [repr, str, "{}".format, "{!r:>20}".format, "{:>20}".format, "%s".__mod__],
)
def test_it_shows_itself_to_nothing_but_reveal(shown: object) -> None:
    """No way of making text out of a secret holds its value."""
    secret = Secret(CANARY)
    assert callable(shown)
    text = shown(secret)
    assert "***" in text
    assert CANARY not in text
    assert secret.reveal() == CANARY


def test_it_is_neither_pickled_copied_nor_encoded() -> None:
    """A secret can't leave the process through a serialiser."""
    secret = Secret(CANARY)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        hash(secret)


def test_equal_values_are_equal_secrets() -> None:
    """Two secrets compare by value, and a secret never equals a text."""
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret("other")
    assert Secret(CANARY) != CANARY


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A rotated file gives the new value at the next reveal."""
    file = tmp_path / "token"
    write(file, "first\n", at=1)
    secret = Secret.from_file(file)
    assert secret.reveal() == "first"
    write(file, "other\n", at=2)
    assert secret.reveal() == "other"


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
    # Same size, same node, same time: only a second reading could tell.
    write(file, "FIRST", at=1)
    assert secret.reveal() == "first"


@pytest.mark.parametrize("unfit", [None, "", "two words"])
def test_an_unfit_file_leaves_the_value(tmp_path: Path, unfit: str | None) -> None:
    """A file gone, empty or unfit keeps the last value; the next good one counts."""
    file = tmp_path / "token"
    write(file, "first", at=1)
    secret = Secret.from_file(file, accepts=lambda text: " " not in text)
    if unfit is None:
        file.unlink()
    else:
        write(file, unfit, at=2)
    assert secret.reveal() == "first"
    assert secret.reveal() == "first"
    write(file, "second", at=3)
    assert secret.reveal() == "second"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_line_end_is_no_part_of_the_value(tmp_path: Path, ending: str) -> None:
    """What editors write at the end is dropped, spaces of a password stay."""
    file = tmp_path / "password"
    file.write_bytes(f" pass word {ending}".encode())
    assert Secret.from_file(file).reveal() == " pass word "


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"canary-7d1f\xff", "not UTF-8"),
        (b"canary-7d1f" * 10_000, "larger than"),
    ],
)
def test_an_unusable_file_is_an_error_without_its_content(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """The error says what is wrong and shows neither content nor path."""
    file = tmp_path / CANARY
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        Secret.from_file(file)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_an_error_without_its_path(tmp_path: Path) -> None:
    """A token given where its path belongs is not repeated."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        Secret.from_file(tmp_path / CANARY)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_name_with_a_null_is_an_error(tmp_path: Path) -> None:
    """A name that no file can have is an error like any other."""
    with pytest.raises(ConfigError, match="no valid name"):
        Secret.from_file(tmp_path / "a\0b")


def test_each_value_is_hidden_before_anybody_has_it(tmp_path: Path) -> None:
    """Who hides secrets is told the first value, and each that the file has later."""
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
