"""
The page itself in a real browser, and how smoothly it runs there.

A program (`python -m benchmarks.board.page PORT SECONDS FILE`). It says when the page
shows jobs, then counts frames and tasks that block the page, and writes the figures to
a file. It needs Playwright and Chromium, as the page's own tests do.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.board.figures import PageRun


__all__ = ["READY_MARK", "obstacle"]

READY_MARK = "the page is open"

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_WINDOW: Final = {"width": 1280, "height": 800}

# A page that has just opened lays out for the first time, and fetches its pictures.
_LEAD_SECONDS: Final = 2.0
_MOST_RESOURCES: Final = 50_000

_BEGIN: Final = f"""() => {{
  const counted = {{ frames: 0, long: [], since: performance.now() }};
  performance.clearResourceTimings();
  performance.setResourceTimingBufferSize({_MOST_RESOURCES});
  const frame = () => {{ counted.frames += 1; requestAnimationFrame(frame); }};
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => {{
    for (const entry of list.getEntries()) counted.long.push(entry.duration);
  }}).observe({{ type: "longtask" }});
  window.counted = counted;
}}"""

_END: Final = """() => {
  const { frames, long, since } = window.counted;
  const fetched = performance.getEntriesByType("resource");
  return {
    seconds: (performance.now() - since) / 1000,
    frames,
    long_ms: long,
    pictures: fetched.filter((one) => one.name.includes("/previews/")).length,
    cards: document.querySelectorAll("#grid > li").length,
  };
}"""


def obstacle() -> str | None:
    """Say what is missing for it on this machine; None if nothing is."""
    if find_spec("playwright") is None:
        return "Playwright is missing: make test-browser installs it"
    if _chromium() is None:
        return "there is no Chromium; BRIDGE_TEST_CHROMIUM may name one"
    return None


def _chromium() -> str | None:
    chosen = os.environ.get("BRIDGE_TEST_CHROMIUM")
    return chosen or next(filter(None, map(shutil.which, _NAMES)), None)


def _measure(port: int, seconds: float) -> PageRun:
    # Not installed but for this and for the page's tests.
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        # Its sandbox wants rights that containers don't give; the page is our own.
        browser = playwright.chromium.launch(
            executable_path=_chromium(), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=_WINDOW)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#grid > li")
        _say(READY_MARK)
        page.wait_for_timeout(_LEAD_SECONDS * 1000)
        devtools = page.context.new_cdp_session(page)
        # CPU time, and not what other processes took meanwhile.
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = _busy(devtools)
        page.evaluate(_BEGIN)
        page.wait_for_timeout(seconds * 1000)
        found: dict[str, Any] = page.evaluate(_END)
        busy = {name: now - before[name] for name, now in _busy(devtools).items()}
        browser.close()
    return msgspec.convert({**found, **busy}, PageRun)


def _busy(devtools: Any) -> dict[str, float]:
    """Tell what the page's thread has used so far, and what for."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    by_name = {metric["name"]: metric["value"] for metric in metrics}
    return {
        "task_seconds": by_name["TaskDuration"],
        "script_seconds": by_name["ScriptDuration"],
        "layout_seconds": by_name["LayoutDuration"] + by_name["RecalcStyleDuration"],
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    measured = _measure(int(sys.argv[1]), float(sys.argv[2]))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(measured))
