"""The command writes the contract's files, and says what is stale or broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge import __version__
from bridge.contract import PUBLISHED, text_of
from bridge.contract.__main__ import files, main
from bridge.contract.released import named
from tests.contract.drawing import drawn


ROOT = Path(__file__).parents[2]
RELEASED = sorted((ROOT / "schemas" / "released").glob("*/*.schema.json"))


def test_files_on_disk_are_current() -> None:
    """As the makefile runs it, the command finds nothing to say."""
    command = [sys.executable, "-m", "bridge.contract", "--check"]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


@pytest.mark.parametrize("path", files(), ids=str)
def test_check_names_a_stale_file(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writing makes the check pass; a changed or missing file makes it fail."""
    options = ["--directory", str(tmp_path)]
    assert main([*options, "--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert main(options) == 0
    assert main([*options, "--check"]) == 0
    capsys.readouterr()

    (tmp_path / path).write_text("{}")

    assert main([*options, "--check"]) == 1
    assert capsys.readouterr().out == f"{path} is stale: run `make schemas`\n"
    assert (tmp_path / path).read_text() == "{}"
    assert main(options) == 0
    assert (tmp_path / path).read_text(encoding="utf-8") == files()[path]


def _released(folder: Path) -> Path:
    """Let this version be released in a folder, and give the released schemas'."""
    assert main(["--directory", str(folder)]) == 0
    assert main(["--directory", str(folder), "--release"]) == 0
    return folder / "schemas" / "released" / __version__


def test_release_keeps_the_schemas_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a release has promised is the text of then, and is never written over."""
    folder = _released(tmp_path)
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == {
        published.file_name: text_of(published.name) for published in PUBLISHED
    }
    kept = folder / "gap.schema.json"
    kept.write_text("{}")
    capsys.readouterr()

    assert main(["--directory", str(tmp_path), "--release"]) == 1

    assert "is there already" in capsys.readouterr().out
    assert kept.read_text() == "{}"


@pytest.mark.parametrize(
    ("released", "line"),
    [
        (
            {"properties": {"cause": {"enum": ["stopped"]}}},
            "gap.schema.json: cause: enum was ['stopped'], now it is ['first_start'",
        ),
        (
            {"$id": "urn:dryapi-kafka-bridge:gap:2"},
            "gap.schema.json: it had the number 2, and now it is 1",
        ),
        (
            {"title": "Hole"},
            "gap.schema.json: its title was 'Hole', now it is 'Gap'",
        ),
    ],
)
def test_broken_promise_fails_the_check(
    released: dict[str, object],
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A schema of now that allows what a release didn't is named, with the place."""
    kept = _released(tmp_path) / "gap.schema.json"
    assert main(["--directory", str(tmp_path), "--check"]) == 0
    kept.write_text(json.dumps(json.loads(kept.read_text("utf-8")) | released))
    capsys.readouterr()

    assert main(["--directory", str(tmp_path), "--check"]) == 1

    assert f"{__version__}/{line}" in capsys.readouterr().out


def test_schema_that_is_gone_is_a_broken_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kind of record can't be dropped by dropping its schema."""
    folder = _released(tmp_path)
    (folder / "gap.schema.json").rename(folder / "control.schema.json")
    capsys.readouterr()

    assert main(["--directory", str(tmp_path), "--check"]) == 1

    assert "control.schema.json: no schema is called so" in capsys.readouterr().out


def test_older_number_is_not_compared(tmp_path: Path) -> None:
    """A new number may allow anything: readers of the old one are told by it."""
    kept = _released(tmp_path) / "gap.schema.json"
    text = kept.read_text("utf-8").replace("gap:1", "gap:0").replace("stopped", "ended")
    kept.write_text(text, encoding="utf-8")
    assert main(["--directory", str(tmp_path), "--check"]) == 0


def test_there_is_something_to_compare_with() -> None:
    """Each kind of record has its released schema."""
    assert {path.name for path in RELEASED} == {
        published.file_name for published in PUBLISHED
    }


@pytest.mark.parametrize(
    "path", RELEASED, ids=lambda path: f"{path.parent.name}/{path.name}"
)
@settings(max_examples=60)
@given(data=st.data())
def test_records_of_now_are_valid_under_what_was_released(
    path: Path, data: st.DataObject
) -> None:
    """What today's schema allows, an independent validator takes by an older one."""
    older = json.loads(path.read_text(encoding="utf-8"))
    newer = json.loads(text_of(path.name.removesuffix(".schema.json")))
    if named(newer) == named(older):
        record = data.draw(drawn(newer))
        Draft202012Validator(newer).validate(record)
        Draft202012Validator(older).validate(record)
