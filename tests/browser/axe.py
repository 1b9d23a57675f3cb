"""
axe-core: what it finds wrong with a page for people who can't see, or can't point.

Owns the rules that are asked for. The script is fetched by `tests.kit.npm`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from playwright.sync_api import Page

from tests.kit.npm import fetch_axe


__all__ = ["findings"]

# All of WCAG 2.2 up to AA, and axe-core's own advice.
_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

# Nothing is preloaded: the page's policy would refuse it, and it has one style sheet.
_RUN = """
async (tags) => {
  const { violations } = await axe.run(
    { runOnly: { type: "tag", values: tags }, preload: false });
  return violations.flatMap(({ id, help, nodes }) => nodes.map(
    (node) => ({ id, help, target: node.target.join(" "), why: node.failureSummary })));
}
"""


@cache
def _script() -> str:
    return fetch_axe().read_text("utf-8")


def findings(page: Page) -> list[str]:
    """Let axe-core look at a page as it is now."""
    # By the debugger's way in, which the page's policy doesn't close.
    page.evaluate(f"{_script()}; undefined")
    found: list[dict[str, Any]] = page.evaluate(_RUN, list(_TAGS))
    return [f"{each['id']} at {each['target']}: {each['why']}" for each in found]
