"""What README and docs/ say of names, links and settings is so in the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import DeadLetterReason, ExitCode
from bridge.job_status import Change
from bridge.kafka import header_names
from bridge.recovery.gap import GapCause
from bridge.settings import load, load_for_reading


_ROOT = Path(__file__).parents[1]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]

# Everything that a page calls by its name in a table's first cell.
_FIRST_CELL = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)
_NAME = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_DEFAULT = re.compile(
    r"`([a-z_]+\.[a-z_]+|shutdown_timeout_seconds)` \((\d[\d,.]*)(?: ([A-Za-z]+))?[),]"
)
_UNITS = {
    "": 1,
    "s": 1,
    "min": 60,
    "h": 3600,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_EVENT = re.compile(r'"([a-z]+\.[a-z_]+)"')


def _text(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def _table(page: str, head: str) -> set[str]:
    """Give the names in the first column of the table whose head begins so."""
    (table,) = re.findall(
        rf"^\| {re.escape(head)} \|.*\n((?:\|.*\n)+)", _text(page), re.MULTILINE
    )
    return {name for cell in _FIRST_CELL.findall(table) for name in _NAME.findall(cell)}


def _logged() -> Iterator[str]:
    """Give every event that a room of the service logs, however it is called."""
    rooms = (
        "board",
        "kafka",
        "outbox",
        "pusher",
        "reconciliation",
        "recovery",
        "registry",
        "serving",
        "webhooks",
    )
    files = [path for room in rooms for path in (_ROOT / "bridge" / room).rglob("*.py")]
    for path in [*files, _ROOT / "bridge" / "service.py"]:
        code = path.read_text(encoding="utf-8")
        # Up to the end of the first argument; `failed` hands an event on.
        for call in re.findall(
            r"(?:_log\.(?:info|warning|error)|outage\.failed)\(([^=]*?)[,)]", code
        ):
            yield from _EVENT.findall(call)
        yield from re.findall(r'self\.failed\("([a-z.]+)"', code)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and a heading that is in it."""
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
        assert not anchor or anchor in {
            heading.lower().replace(" ", "-") for heading in headings
        }


def test_files_that_the_readme_cites_are_there() -> None:
    """A test that is cited as proof exists."""
    cited = re.findall(r"`(tests/[\w/]+\.py)`", _text("README.md"))
    assert cited
    assert [name for name in cited if not (_ROOT / name).is_file()] == []


def test_tests_that_the_docs_cite_are_there() -> None:
    """A fault's row names tests that exist."""
    cited = {
        found
        for page in _PAGES
        for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))
    }
    assert cited
    missing = {
        f"{path}::{name}"
        for path, name in cited
        if not re.search(rf"def {name}\(", (_ROOT / path).read_text("utf-8"))
    }
    assert not missing


def test_headers_are_those_of_the_code() -> None:
    """The tables of headers name every header that is written, and no other."""
    written = {
        value
        for name, value in vars(header_names).items()
        if name.startswith(("CE_", "BRIDGE_", "ERROR_", "CONTENT_TYPE", "TRACEPARENT"))
    }
    text = _text("docs/records.md")
    tables = re.findall(r"^\| header \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [cell for table in tables for cell in _FIRST_CELL.findall(table)]
    assert {name for cell in cells for name in _NAME.findall(cell)} == written
    assert _table("README.md", "header") <= written


def test_vocabularies_are_those_of_the_code() -> None:
    """Reasons, changes and causes are listed whole."""
    assert _table("docs/records.md", "reason") == set(DeadLetterReason)
    assert _table("docs/records.md", "change") == set(Change)
    assert _table("docs/gaps.md", "cause") == set(GapCause)


def test_log_events_are_those_of_the_code() -> None:
    """Each event that the service can log above debug is explained, and no other."""
    assert _table("docs/operations.md", "event") == set(_logged())


def test_exit_codes_are_those_of_the_code() -> None:
    """Each code has a row."""
    rows = re.findall(r"^\| ([0-9]) \|", _text("docs/operations.md"), re.MULTILINE)
    assert {int(row) for row in rows} == set(ExitCode)


def test_metrics_are_those_of_the_code() -> None:
    """Every metric that is named exists: the page of metrics is made from the code."""
    named = set(re.findall(r"`(bridge_[a-z_]+)`", _text("docs/operations.md")))
    assert named
    assert named <= _table("docs/metrics.md", "metric")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_defaults_that_a_page_names_are_those_in_force(page: Path) -> None:
    """A setting with a number in brackets behind it has that default."""
    settings = load_for_reading({"topic": "jobs"}, {}, None).settings
    for name, number, unit in _DEFAULT.findall(page.read_text(encoding="utf-8")):
        value: object = settings
        for part in name.split("."):
            value = getattr(value, part)
        assert value == float(number.replace(",", "")) * _UNITS[unit], name


def test_settings_file_of_the_readme_is_accepted(tmp_path: Path) -> None:
    """The TOML example has only settings that exist, with values that fit together."""
    (example,) = re.findall(r"```toml\n(.*?)```", _text("README.md"), re.DOTALL)
    secret = tmp_path / "secret"
    secret.write_text("made-up")
    file = tmp_path / "bridge.toml"
    file.write_text(re.sub(r"/run/secrets/[\w-]+", str(secret), example))

    loaded = load({}, {}, file).settings

    written = tomllib.loads(example)
    assert loaded.topic == written["topic"]
    assert loaded.kafka.sasl_username == written["kafka"]["sasl_username"]
    assert str(loaded.outbox.dir) == written["outbox"]["dir"]
