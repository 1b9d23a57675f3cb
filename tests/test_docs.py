"""What the pages say of names, links and settings is so in the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge.cli import root
from bridge.errors import DOCS_URL, DeadLetterReason, ExitCode
from bridge.events import header_names
from bridge.events.job_status import Change
from bridge.gaps.gap import GapCause
from bridge.settings import Scope, load


_ROOT = Path(__file__).parents[1]
_PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "helm/bridge/*.md")
    for path in sorted(_ROOT.glob(pattern))
]

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
# Links that leave docs/ have the address of the repository: the site has no such page.
_REPOSITORY = DOCS_URL.removesuffix("docs")
_CITED = re.compile(r"\{DOCS_URL\}/([\w./-]+)")
_EVENT = re.compile(r'"([a-z]+\.[a-z_]+)"')


def _text(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def _table(page: str, head: str) -> set[str]:
    """Return the names in the first column of the tables whose head starts so."""
    tables = re.findall(
        rf"^\| {re.escape(head)} \|.*\n((?:\|.*\n)+)", _text(page), re.MULTILINE
    )
    cells = [cell for table in tables for cell in _FIRST_CELL.findall(table)]
    return {name for cell in cells for name in _NAME.findall(cell)}


def _logged() -> Iterator[str]:
    """Return every event that is logged above debug, however the logger is called."""
    packages = (
        "board",
        "consumer",
        "gaps",
        "http",
        "kafka",
        "outbox",
        "pusher",
        "schemas",
        "settings",
    )
    bridge = _ROOT / "bridge"
    files = [path for name in packages for path in (bridge / name).rglob("*.py")]
    for path in [*files, *bridge.glob("*.py")]:
        code = path.read_text(encoding="utf-8")
        # Up to the end of the first argument; `failed` hands an event on.
        for call in re.findall(
            r"\b(?:_?log(?:\.(?:info|warning|error))?|outage\.failed|write)\(([^=]*?)[,)]",
            code,
        ):
            yield from _EVENT.findall(call)
        yield from re.findall(r'self\.failed\("([a-z.]+)"', code)


def _slug(heading: str) -> str:
    """Give a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if name.startswith(_REPOSITORY):
        target = _ROOT / name.removeprefix(_REPOSITORY)
    if not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
    return target.is_file() and anchor in map(_slug, headings)


def test_links_lead_somewhere() -> None:
    """Each link into this repository names a file that is there, and its heading."""
    links = [
        (page, link)
        for page in _PAGES
        for link in _LINK.findall(page.read_text("utf-8"))
        if not link.startswith("https://") or link.startswith(_REPOSITORY)
    ]
    assert len(links) > 100
    assert [
        f"{page.name}: {link}"
        for page, link in links
        if not _leads_somewhere(page, link)
    ] == []


def test_pages_that_the_code_cites_exist() -> None:
    """Help and errors cite pages of this repository, by the project's address."""
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    assert DOCS_URL.startswith(project["urls"]["Documentation"].partition("#")[0])
    cited = {
        page
        for path in (_ROOT / "bridge").rglob("*.py")
        for page in _CITED.findall(path.read_text("utf-8"))
    }
    assert cited
    assert [page for page in cited if not (_ROOT / "docs" / page).is_file()] == []


def test_headers_are_those_of_the_code() -> None:
    """The tables of headers name every header that is written, and no other."""
    written = {
        value
        for name, value in vars(header_names).items()
        if name.startswith(("CE_", "BRIDGE_", "ERROR_", "CONTENT_TYPE", "TRACEPARENT"))
    }
    assert _table("docs/consume/records.md", "header") == written
    assert _table("README.md", "header") <= written


def test_vocabularies_are_those_of_the_code() -> None:
    """Reasons, changes and causes are listed whole."""
    assert _table("docs/consume/records.md", "reason") == set(DeadLetterReason)
    assert _table("docs/consume/records.md", "change") == set(Change)
    assert _table("docs/evaluate/gaps-and-recovery.md", "cause") == set(GapCause)


def test_log_events_are_those_of_the_code() -> None:
    """Each event that the service can log above debug is explained, and no other."""
    assert _table("docs/reference/logs-and-exit-codes.md", "event") == set(_logged())


def test_commands_are_those_of_the_code() -> None:
    """Each command has a row."""
    table = _table("docs/reference/commands.md", "command")
    rows = {name.split()[1] for name in table if " " in name}
    assert rows == set(root.list_commands(click.Context(root)))


def test_make_targets_exist() -> None:
    """Each target of make that a page names is in the Makefile."""
    rules = re.findall(r"^([a-z -]+):(?!=)", _text("Makefile"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    named = {
        name
        for page in _PAGES
        for name in re.findall(
            r"(?:^|`)make ([a-z][a-z-]+)", page.read_text("utf-8"), re.MULTILINE
        )
    }
    assert named
    assert named <= targets


def test_exit_codes_are_those_of_the_code() -> None:
    """Each code has a row."""
    page = _text("docs/reference/logs-and-exit-codes.md")
    rows = re.findall(r"^\| ([0-9]) \|", page, re.MULTILINE)
    assert {int(row) for row in rows} == set(ExitCode)


def test_metrics_are_those_of_the_code() -> None:
    """Every metric that is named exists: the page of metrics is made from the code."""
    named = set(re.findall(r"`(bridge_[a-z_]+)`", _text("docs/operate/monitoring.md")))
    assert named
    assert named <= _table("docs/reference/metrics.md", "metric")


def test_defaults_that_a_page_names_are_those_in_force() -> None:
    """A setting with a number in brackets behind it has that default."""
    settings = load({"topic": "jobs"}, {}, None, Scope.READING).settings
    wrong = []
    for page in _PAGES:
        for name, number, unit in _DEFAULT.findall(page.read_text("utf-8")):
            value: object = settings
            for part in name.split("."):
                value = getattr(value, part)
            if value != float(number.replace(",", "")) * _UNITS[unit]:
                wrong.append(f"{page.name}: {name} {number} {unit}, not {value}")
    assert wrong == []


@pytest.mark.parametrize("page", ["README.md", "docs/reference/settings.md"])
def test_settings_files_of_the_docs_are_accepted(page: str, tmp_path: Path) -> None:
    """A whole TOML example has only settings that exist, with values that fit."""
    (example,) = re.findall(r"```toml\n(.*?)```", _text(page), re.DOTALL)
    for name in set(re.findall(r"/run/secrets/([\w-]+)", example)):
        (tmp_path / name).write_text(f"made-up-{name}")
    file = tmp_path / "bridge.toml"
    file.write_text(example.replace("/run/secrets", str(tmp_path)))

    loaded = load({}, {}, file).settings

    written = tomllib.loads(example)
    assert [account.client_id for account in loaded.all_accounts] == [
        account["client_id"] for account in written.get("accounts", [written])
    ]
    for group in ("kafka", "outbox"):
        for name, value in written.get(group, {}).items():
            if not name.endswith("_file"):
                assert str(getattr(getattr(loaded, group), name)) == str(value), name
