"""The house's arrows point one way; each seam has one importer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bridge


PACKAGE = Path(bridge.__file__).parent

LEAVES = {"errors", "http_headers", "record", "settings", "job_status"}

# It lies in the Kafka room and imports nothing: whoever makes a record uses it.
NAMES_OF_HEADERS = "bridge.kafka.header_names"

# What a room may import of the package beside itself.
ALLOWED = {
    "errors": set(),
    "http_headers": set(),
    "record": set(),
    "settings": {"errors"},
    "job_status": {"errors"},
    "pusher": LEAVES,
    "outbox": LEAVES,
    "recovery": LEAVES,
    "reconciliation": LEAVES | {"threads"},
    "webhooks": LEAVES | {"threads", "serving"},
    "serving": {"errors"},
    "registry": LEAVES,
    "kafka": LEAVES | {"dead_letter"},
    "operations": LEAVES | {"serving"},
    "contract": LEAVES | {"recovery", "previews", "kafka"},
    "dead_letter": LEAVES,
    "previews": {"errors"},
    "intake": LEAVES | {"dead_letter", "previews"},
    "restraint": set(),
    "threads": set(),
    "tracing": LEAVES,
    "consumer": LEAVES | {"kafka"},
    # Beside the service: a consumer with a page.
    "board": LEAVES | {"consumer", "kafka", "previews", "serving"},
    "sandbox": LEAVES,
    "sessions": LEAVES | {"intake", "restraint", "pusher", "outbox", "recovery"},
    "healing": LEAVES
    | {
        "intake",
        "operations",
        "outbox",
        "pusher",
        "reconciliation",
        "recovery",
        "serving",
        "sessions",
        "webhooks",
    },
    "framing": LEAVES | {"contract", "registry"},
    # Beside the service: it asks of each room what that would ask.
    "doctor": LEAVES
    | {"framing", "outbox", "kafka", "pusher", "reconciliation", "serving"},
    # A service of its own: a writer beside the bridge.
    "replay": LEAVES
    | {"framing", "intake", "outbox", "kafka", "consumer", "operations", "threads"},
    "service": LEAVES
    | {
        "dead_letter",
        "framing",
        "threads",
        "healing",
        "intake",
        "sessions",
        "pusher",
        "outbox",
        "kafka",
        "recovery",
        "reconciliation",
        "webhooks",
        "serving",
        "operations",
        "tracing",
    },
}


def modules_of(room: str) -> list[Path]:
    """Give the files of a room, which is a module or a package."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def imported_names(path: Path) -> set[str]:
    """Give the dotted names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    """No arrow runs back up, and the middle rooms don't know each other."""
    # What is taken from a package has a name of its own beside the package's.
    passed_over = {"bridge.kafka", NAMES_OF_HEADERS}
    reached = {
        name.split(".")[1]
        for path in modules_of(room)
        for name in imported_names(path) - passed_over
        if name.startswith("bridge.")
    }
    assert reached - {room, "__version__"} <= ALLOWED[room]


def test_names_of_headers_import_nothing() -> None:
    """What every maker of records may import leads nowhere."""
    path = PACKAGE.parent.joinpath(*NAMES_OF_HEADERS.split(".")).with_suffix(".py")
    assert {name.split(".")[0] for name in imported_names(path)} == {
        "__future__",
        "typing",
    }


def test_every_room_has_its_place() -> None:
    """A new room must be given one here."""
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__", "cli"} == set(ALLOWED)


@pytest.mark.parametrize(
    ("library", "importers"),
    [
        ("trio_websocket", {"pusher/websocket.py"}),
        ("sqlite3", {"outbox"}),
        ("asyncio", {"kafka"}),
        ("aiokafka", {"kafka"}),
        ("opentelemetry", {"tracing/sdk.py"}),
        # The image doesn't have it.
        ("hypercorn", {"sandbox/server.py"}),
        (
            "httpx",
            {
                "kafka/client/oidc.py",
                "pusher/authorizer.py",
                "reconciliation/client.py",
                "registry/client.py",
                "sandbox/deliveries.py",
                "sandbox/remote.py",
            },
        ),
    ],
)
def test_a_seam_has_its_importer_alone(library: str, importers: set[str]) -> None:
    """Only the room that owns a library speaks to it."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if any(name.split(".")[0] == library for name in imported_names(path)):
            place = path.relative_to(PACKAGE).as_posix()
            found.add(place if place in importers else place.split("/")[0])
    assert found == importers
