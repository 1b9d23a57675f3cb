"""Accessibility: axe-core, only the keyboard, any window, either theme."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import fill
from tests.browser.stand_in import StandIn, now_ms


WIDTHS = (320, 768, 1280, 3840)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_full_board_is_accessible(
    board: StandIn, open_page: Open, scheme: str, width: int
) -> None:
    """axe-core finds nothing wrong with a full board, whatever is open."""
    ids = fill(board)
    window = {"width": width, "height": 900}
    page = open_page(board.url, viewport=window, color_scheme=scheme)
    page.wait_state("Live")
    for reason in page.find("#reasons summary").all():
        reason.click()
    page.page.get_by_label("Error").check()
    page.find(".card .error summary").first.click()
    page.check_accessible()

    page.page.get_by_label("Error").uncheck()
    expect(page.card(ids[0])).to_have_count(1)
    board.shown |= {"reading": "unavailable", "unavailable_since_ms": now_ms()}
    page.wait_state("Kafka unavailable")
    page.check_accessible()
    page.check_width()
    card = page.find(".card").first.bounding_box()
    assert card
    assert 130 <= card["width"] <= 420


def test_keyboard_reaches_everything(board: StandIn, open_page: Open) -> None:
    """Tab alone goes from the head to the last card, and each stop can be seen."""
    fill(board, jobs=6)
    page = open_page(board.url)
    page.wait_state("Live")
    stops: list[dict[str, Any]] = []
    while len(stops) < 40:
        page.page.keyboard.press("Tab")
        stop = page.ask(
            """() => {
              const at = document.activeElement;
              if (at === document.body) return null;
              const seen = at.closest(".choice") ?? at;
              const { width, height } = seen.getBoundingClientRect();
              const { outlineStyle } = getComputedStyle(seen);
              return { name: at.id || at.className || at.value || at.tagName,
                       visible: width > 0 && height > 0 && outlineStyle !== "none" };
            }"""
        )
        if stop is None:
            break
        stops.append(stop)

    names = [stop["name"] for stop in stops]
    assert [stop for stop in stops if not stop["visible"]] == []
    assert names[:5] == ["skip", "pause", "gap-table", "SUMMARY", "SUMMARY"]
    assert names[5:10] == ["filter-id", "processing", "in_progress", "done", "error"]
    # Each card has its id, some an error and a result.
    assert names.count("copy") == 6
    assert names.count("SUMMARY") == 3
    assert names.count("result") == 1


def test_keyboard_works_everything(board: StandIn, open_page: Open) -> None:
    """Examples, filter, copying and a long error: none needs a pointer."""
    ids = fill(board, jobs=5)
    permissions = ["clipboard-read", "clipboard-write"]
    page = open_page(board.url, permissions=permissions)
    press = page.page.keyboard.press
    page.wait_state("Live")

    page.find("#reasons summary").first.focus()
    press("Space")
    expect(page.find("#reasons .text").first).to_be_visible()

    page.page.get_by_label("Error").focus()
    press("Space")
    expect(page.find(".card")).to_have_count(1)
    page.find(".card .error summary").focus()
    press("Enter")
    expect(page.find(".card .error")).to_have_attribute("open", "")
    page.find(".copy").focus()
    press("Enter")
    expect(page.find("#announced")).to_have_text("The id is copied.")
    assert page.ask("navigator.clipboard.readText()") == ids[3]


def test_skip_link_leads_to_the_jobs(board: StandIn, open_page: Open) -> None:
    """A keyboard user can skip to the jobs."""
    fill(board, jobs=3)
    page = open_page(board.url)
    page.wait_state("Live")
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Tab")

    expect(page.find("#filter-id")).to_be_focused()


def test_focus_is_not_lost_with_a_card(board: StandIn, open_page: Open) -> None:
    """When the card with the focus goes, the focus stays among the jobs."""
    fill(board, jobs=3)
    page = open_page(board.url)
    page.find(".copy").first.focus()
    board.jobs.clear()
    board.put("new")
    expect(page.card("new")).to_have_count(1)
    expect(page.find(".card")).to_have_count(1)

    expect(page.find("#jobs")).to_be_focused()


def test_only_states_are_read_aloud(board: StandIn, open_page: Open) -> None:
    """Events change nothing that is read aloud: a job isn't announced."""
    fill(board, jobs=5)
    page = open_page(board.url)
    page.wait_state("Live")
    page.ask(
        """() => {
          window.announced = 0;
          const live = "[role=status], [role=alert], [aria-live]";
          for (const each of document.querySelectorAll(live)) {
            new MutationObserver(() => window.announced++).observe(
              each, { childList: true, characterData: true, subtree: true });
          }
        }"""
    )
    for number in range(20):
        board.put(f"job-{number}")
        page.page.wait_for_timeout(100)
    expect(page.card("job-19")).to_have_count(1)
    assert page.ask("window.announced") == 0

    board.shown |= {"reading": "unavailable", "unavailable_since_ms": now_ms()}
    page.wait_state("Kafka unavailable")
    page.page.wait_for_timeout(2_500)
    assert page.ask("window.announced") == 1


def test_reduced_motion_is_respected(board: StandIn, open_page: Open) -> None:
    """Nothing glides for readers who asked for that."""
    fill(board, jobs=3)
    page = open_page(board.url, reduced_motion="reduce")
    page.wait_state("Live")

    moving = page.ask("document.getAnimations().length")
    assert moving == 0
