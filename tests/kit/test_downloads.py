"""Jars are held against a list of digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import downloads


def test_foreign_jar_is_refused(tmp_path: Path) -> None:
    """Jars that differ from the list, are missing or too many are named."""
    folder = tmp_path / "environment"
    (folder / "jars").mkdir(parents=True)
    for name in ("a", "b", "foreign"):
        (folder / "jars" / f"{name}.jar").write_bytes(b"content")
    good = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    listed = f"{good}  jars/a.jar\n{'0' * 64}  jars/b.jar\n{good}  jars/missing.jar\n"
    with pytest.raises(ValueError, match="expected jars") as caught:
        downloads.check_digests(folder, listed)
    named = str(caught.value).partition(": ")[2]
    assert named == "jars/b.jar, jars/foreign.jar, jars/missing.jar"
