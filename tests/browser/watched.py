"""A page of the board under watch: whatever a browser complains about is a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    expect,
)

from tests.kit.npm import fetch_axe


# What every hostile script of the tests sets.
MARKER = "somebodyElsesScriptRan"

# The browser's words for what the network did: a server that is away, a preview that
# was let go. The page isn't to blame, and says so in its own words.
_NETWORK = "Failed to load resource"

_REPORT_BREACHES = """
window.breaches = [];
addEventListener("securitypolicyviolation", (event) => {
  window.breaches.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


# All of WCAG 2.2 up to AA, and axe-core's own advice.
_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

# Nothing is preloaded: the page's policy would refuse it, and it has one style sheet.
_RUN_AXE = """
async (tags) => {
  const { violations } = await axe.run(
    { runOnly: { type: "tag", values: tags }, preload: false });
  return violations.flatMap(({ id, nodes }) => nodes.map(
    (node) => `${id} at ${node.target.join(" ")}: ${node.failureSummary}`));
}
"""


class Watched:
    """A page that is open, and what was complained about so far."""

    def __init__(
        self,
        context: BrowserContext,
        url: str,
        query: str = "",
        before: Callable[[Page], object] | None = None,
    ) -> None:
        self.complaints: list[str] = []
        self.streams_opened = 0
        self._origin = urlsplit(url).netloc
        context.add_init_script(_REPORT_BREACHES)
        self.page: Page = context.new_page()
        context.on("page", lambda page: self._complain(f"a window: {page.url}"))
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        self.page.on("dialog", self._on_dialog)
        self.page.on("request", self._on_request)
        if before is not None:
            before(self.page)
        self.page.goto(url + query)

    def _complain(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def _on_console(self, message: ConsoleMessage) -> None:
        is_bad = message.type in {"error", "warning"}
        if is_bad and not message.text.startswith(_NETWORK):
            self._complain(f"console: {message.text}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self._complain(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        self.streams_opened += urlsplit(request.url).path == "/events"
        if urlsplit(request.url).netloc != self._origin:
            self._complain(f"asked {request.url[:200]}")

    def find(self, selector: str) -> Locator:
        """Find elements."""
        return self.page.locator(selector)

    def ask(self, script: str, argument: Any = None) -> Any:
        """Run a script of the test's own in the page; give what it gives."""
        return self.page.evaluate(script, argument)

    def card(self, job_id: str) -> Locator:
        """Find a job's card by its whole id."""
        card = self.page.locator(".card")
        return card.filter(has=self.page.get_by_title(job_id, exact=True))

    def wait_state(self, word: str, seconds: float = 10.0) -> None:
        """Wait until the page says how it stands."""
        state = self.find("#state")
        expect(state).to_have_text(word, timeout=seconds * 1000)

    def check(self) -> None:
        """Fail for whatever was complained about."""
        breaches = self.ask("window.breaches")
        assert not breaches, f"the policy was broken: {breaches}"
        assert self.ask(f"window.{MARKER}") is None, "a hostile script ran"
        assert not self.complaints, "\n".join(self.complaints)

    def check_accessible(self) -> None:
        """Fail for what axe-core finds wrong with the page as it is now."""
        # By the debugger's way in, which the page's policy doesn't close.
        self.page.evaluate(f"{fetch_axe().read_text('utf-8')}; undefined")
        found = self.ask(_RUN_AXE, list(_TAGS))
        assert not found, "\n".join(found)

    def check_width(self) -> None:
        """Fail if the page is wider than its window."""
        wide, window = self.ask(
            "[document.documentElement.scrollWidth, document.documentElement"
            ".clientWidth]"
        )
        assert wide <= window, f"the page is {wide} px wide in a window of {window}"
