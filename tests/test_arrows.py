"""Imports go one way, downward, and each library has its importers."""

from __future__ import annotations

import ast
from pathlib import Path

import bridge


_PACKAGE = Path(bridge.__file__).parent

# From the bottom up: a layer imports those before it.
_LAYERS = (
    {"errors", "generated", "metric", "text", "threads"},
    {"events", "settings"},
    {"http", "outbox"},
    {"gaps", "kafka", "pusher", "sandbox", "tracing"},
    {"accounts", "operations", "schemas"},
    {"consumer", "healing"},
    {"board", "check", "service"},
    {"cli"},
    {"__main__"},
)

_IMPORTERS = {
    "trio_websocket": {"pusher/websocket.py"},
    "sqlite3": {"outbox"},
    "asyncio": {"kafka"},
    "aiokafka": {"kafka"},
    "opentelemetry": {"tracing.py"},
    "httpx": {"http/post.py", "sandbox/simulation.py", "sandbox/webhooks.py"},
}


def _imports() -> dict[str, set[str]]:
    """Give the dotted names that each file imports, wherever in it, by its path."""
    found: dict[str, set[str]] = {}
    for path in _PACKAGE.rglob("*.py"):
        names = found.setdefault(path.relative_to(_PACKAGE).as_posix(), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def _part(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def test_imports_go_downward() -> None:
    """No module or package imports one of its own layer, or of one above it."""
    height = {name: row for row, layer in enumerate(_LAYERS) for name in layer}
    files = {path: names for path, names in _imports().items() if path != "__init__.py"}
    assert {_part(path) for path in files} == height.keys()
    assert [
        f"{path}: {name}"
        for path, names in files.items()
        for name in names
        if name.startswith("bridge.")
        and (other := name.split(".")[1]) not in {_part(path), "__version__"}
        and height[other] >= height[_part(path)]
    ] == []


def test_a_library_has_its_importers_alone() -> None:
    """Only the package or module that owns a library imports it."""
    found: dict[str, set[str]] = {library: set() for library in _IMPORTERS}
    for path, names in _imports().items():
        for library in found.keys() & {name.partition(".")[0] for name in names}:
            own = path in _IMPORTERS[library]
            found[library].add(path if own else _part(path))
    assert found == _IMPORTERS
