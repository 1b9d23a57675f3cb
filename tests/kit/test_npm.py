"""Tests of how npm packages are installed."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.kit.npm import install


@pytest.mark.timeout(60)
def test_no_package_runs_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's own scripts would run with all rights of who runs the tests."""
    monkeypatch.setenv("BRIDGE_TEST_CACHE", str(tmp_path / "cache"))
    file, packed, ran = (tmp_path / name for name in ("package.json", "a.tgz", "ran"))
    scripts = dict.fromkeys(("preinstall", "install", "postinstall"), f"touch {ran}")
    file.write_text(json.dumps({"name": "a", "version": "1.0.0", "scripts": scripts}))
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(file, "package/package.json")
    entry = "a/package.json"
    folder = install("a", {"a": f"file:{packed}"}, entry, lambda _: None)
    assert (folder / "node_modules" / entry).is_file()
    assert not ran.exists()
