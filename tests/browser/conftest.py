"""Fixtures of the browser's tests: the browser, a stand-in for the board, a page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.stand_in import StandIn
from tests.kit.cache import FetchError
from tests.kit.npm import fetch_axe, fetch_typescript


if TYPE_CHECKING:
    # Installed for these tests only.
    from playwright.sync_api import Browser, Page

    from tests.browser.watched import Watched

CHROMIUM_VARIABLE = "BRIDGE_TEST_CHROMIUM"

_NAMES = ("chromium", "chromium-browser", "google-chrome")

# What is looked at where a test says nothing else.
_WINDOW = {"width": 1280, "height": 800}

Open = Callable[..., "Watched"]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder alone unless it is asked for: its modules need Playwright."""
    if "browser" not in config.option.markexpr:
        return True
    # Once, and not for each test.
    if find_spec("playwright") is None:
        pytest.exit("Playwright is missing: make test-browser", 1)
    return None


@pytest.hookimpl(tryfirst=True)  # before -m browser chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what judges the page, outside of any test's deadline."""
    here = Path(__file__).parent
    is_wanted = any(here in item.path.parents for item in session.items)
    if session.config.option.collectonly or not is_wanted:
        return
    try:
        _chromium()
    except FileNotFoundError as error:
        pytest.exit(str(error), 1)
    # The tests that need it say what is wrong.
    with contextlib.suppress(FetchError):
        fetch_axe()
        fetch_typescript()


def _chromium() -> str:
    """Find the browser."""
    chosen = os.environ.get(CHROMIUM_VARIABLE)
    found = chosen or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None or not Path(found).exists():
        raise FileNotFoundError(
            f"The browser tests need Chromium, and there is no {chosen or _NAMES[0]}: "
            f"install the system's package chromium, or name a program with "
            f"{CHROMIUM_VARIABLE}."
        )
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        # Its sandbox needs permissions that containers lack; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=_chromium(), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def board() -> Iterator[StandIn]:
    """A stand-in for the board's server, that says what the test puts in."""
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Open a page under watch; what it complained about fails the test at its end."""
    from tests.browser.watched import Watched  # noqa: PLC0415

    pages: list[Watched] = []

    def opened(
        url: str,
        query: str = "",
        before: Callable[[Page], object] | None = None,
        **options: Any,
    ) -> Watched:
        context = chromium.new_context(**{"viewport": _WINDOW} | options)
        context.set_default_timeout(10_000)
        pages.append(Watched(context, url, query, before))
        return pages[-1]

    yield opened
    for watched in pages:
        watched.check()
        watched.page.context.close()
