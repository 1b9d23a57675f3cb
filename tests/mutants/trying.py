"""A copy of the project, a patch of it, and what becomes of some of its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


__all__ = ["Outcome", "PatchError", "copy_project", "patch", "run_tests"]

_ROOT = Path(__file__).parents[2]

# What the tests of the table read.
_COPIED = ("bridge", "tests", "schemas", "pyproject.toml")

# Above what all of the table's tests take on a busy machine.
_DEADLINE_SECONDS = 400.0

# pytest's exit codes: all passed; some failed.
_PASSED, _FAILED = 0, 1

_SHOWN_CHARACTERS = 4000


class PatchError(Exception):
    """A patch doesn't apply to the code of now."""


@dataclass(frozen=True)
class Outcome:
    """What became of some tests."""

    has_passed: bool
    failed: frozenset[str]
    output: str


def copy_project(to: Path, sound: Path = _ROOT) -> Path:
    """Copy what the tests need, compiled files too; gives the copy."""
    for name in _COPIED:
        source, copy = sound / name, to / name
        if source.is_dir():
            # Of the project itself they may be just being written.
            ignored = ("__pycache__",) if sound is _ROOT else ()
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*ignored))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    return to


def patch(copy: Path, patch_file: Path) -> None:
    """Apply a patch to a copy."""
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch_file)],  # noqa: S607
        cwd=copy,
        # A copy within some repository isn't part of it.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PatchError(done.stderr.strip())


def run_tests(
    copy: Path, tests: Sequence[str], environment: Mapping[str, str]
) -> Outcome:
    """Run tests of a copy in a process of their own."""
    report = copy / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", *tests]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}"]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env={**environment, "PYTHONPATH": str(copy)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=_DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        # Its children end with it: see tests.kit.process.
        process.terminate()
        output, _ = process.communicate()
        output += f"\nended after {_DEADLINE_SECONDS:g} s"
    failed = frozenset[str]()
    has_passed = process.returncode == _PASSED and not _names_of(report, "skipped")
    if process.returncode == _FAILED:
        names = _names_of(report, "failure")
        failed = frozenset(test for test in tests if _names(test) & names)
    return Outcome(has_passed, failed, output[-_SHOWN_CHARACTERS:])


def _names_of(report: Path, end: str) -> set[str]:
    """Give the tests with this end, with and without their parameters.

    A failure is one of the test's own call; fixtures that fail are errors.
    """
    names = set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest's own
        if case.find(end) is not None:
            name = f"{case.get('classname')}::{case.get('name')}"
            names |= {name, name.partition("[")[0]}
    return names


def _names(test: str) -> set[str]:
    """Give a test's name as it is in a report."""
    path, _, name = test.partition("::")
    return {f"{path.removesuffix('.py').replace('/', '.')}::{name}"}
