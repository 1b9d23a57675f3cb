"""The page of conformance, and whether each row is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pusher import conformance
from tests.pusher.checklist import ROWS


_PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"

# What soketi, or a client of it, can't be brought to do: it has no such codes or
# shapes, or another server's or the auth endpoint's behaviour is meant.
_NEVER_SOKETI = {3, 4, 5, 6, 18, 19, 20, 21, 28, 29, 31, 34, 39}

_MODULE = '''
import pytest
from tests.kit.scripted import staged

@pytest.fixture
def minutes(soketi):
    return soketi

def _helper():
    return staged()

def test_row_07_by_a_fixture(minutes):
    """First line.

    Second line.
    """

@pytest.mark.long
async def test_rows_01_02_by_a_helper():
    """Through another function."""
    _helper()

def test_row_03_alone():
    """Without anybody."""

def test_without_a_row():
    """Not one of them."""
'''


def test_every_row_has_a_test() -> None:
    """From 1 to 42; and no test shows a row that there isn't."""
    assert list(ROWS) == list(range(1, 43))
    shown = {row for proof in conformance.proofs() for row in proof.rows}
    assert shown == set(ROWS)


def test_what_soketi_can_show_is_shown_against_soketi() -> None:
    """A scripted server alone is enough only where soketi can't do it."""
    against_soketi = {
        row
        for proof in conformance.proofs()
        if proof.server == "soketi"
        for row in proof.rows
    }
    assert against_soketi == set(ROWS) - _NEVER_SOKETI


def test_a_row_is_played_or_real_and_never_only_thought() -> None:
    """No row rests on tests without a connection."""
    played = {
        row
        for proof in conformance.proofs()
        if proof.server != "none"
        for row in proof.rows
    }
    assert played == set(ROWS)


def test_every_proof_says_what_it_shows() -> None:
    """Its sentence is one, and stands in its docstring's first line."""
    for proof in conformance.proofs():
        assert re.fullmatch(r"\S.*[.\w]", proof.sentence), proof


def test_the_page_is_what_the_tests_say(capsys: pytest.CaptureFixture[str]) -> None:
    """`make docs` writes it anew."""
    assert conformance.main(["--check", "--file", str(_PAGE)]) == 0, (
        capsys.readouterr().out
    )


def test_a_stale_page_is_told_and_written(tmp_path: Path) -> None:
    """Checking writes nothing; writing twice changes nothing."""
    page = tmp_path / "page.md"
    assert conformance.main(["--check", "--file", str(page)]) == 1
    assert not page.exists()
    assert conformance.main(["--file", str(page)]) == 0
    assert conformance.main(["--check", "--file", str(page)]) == 0
    page.write_text(page.read_text() + "by hand")
    assert conformance.main(["--check", "--file", str(page)]) == 1


def test_a_proof_is_read_from_its_code(tmp_path: Path) -> None:
    """Rows from the name, the server through fixtures and functions, the mark."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_it.py").write_text(_MODULE)
    found = [
        (proof.rows, proof.server, proof.long, proof.sentence, proof.path)
        for proof in conformance.proofs(folder)
    ]
    assert found == [
        ((7,), "soketi", False, "First line.", "tests/test_it.py"),
        ((1, 2), "scripted", True, "Through another function.", "tests/test_it.py"),
        ((3,), "none", False, "Without anybody.", "tests/test_it.py"),
    ]
