"""The filter: it works on the page, and the page's address keeps it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import fill
from tests.browser.stand_in import StandIn


def test_filter_is_by_id_and_status(board: StandIn, open_page: Open) -> None:
    """A part of the id and any of the statuses, in the address, and no new stream."""
    ids = fill(board)
    page = open_page(board.url)
    expect(page.find(".card")).to_have_count(40)
    page.find("#filter-id").press_sequentially(ids[3][:8])
    expect(page.find(".card")).to_have_count(1)
    expect(page.find("#count")).to_have_text("1 that match")
    assert page.page.url == f"{board.url}?id={ids[3][:8]}"
    page.find("#filter-id").fill("")
    page.page.get_by_label("Done").check()
    expect(page.find(".card")).to_have_count(8)
    page.page.get_by_label("Error").check()
    expect(page.find(".card")).to_have_count(16)
    assert page.page.url == f"{board.url}?status=done%2Cerror"
    # A job that comes, and one that no longer matches.
    board.put("new", status="done")
    board.put(ids[1], status="in_progress")
    expect(page.card("new")).to_have_count(1)
    expect(page.card(ids[1])).to_have_count(0)
    page.page.get_by_role("button", name="Clear filter").click()
    expect(page.find(".card")).to_have_count(41)
    assert page.page.url == board.url
    assert page.streams_opened == 1


def test_filter_works_on_a_paused_page(board: StandIn, open_page: Open) -> None:
    """It chooses from what the page had when it was paused."""
    fill(board)
    page = open_page(board.url)
    page.wait_state("Live")
    page.find("#pause").click()
    page.wait_state("Paused")
    page.page.get_by_label("Done").check()
    expect(page.find(".card")).to_have_count(8)
    page.wait_state("Paused")


def test_address_restores_the_filter(board: StandIn, open_page: Open) -> None:
    """A page that is opened with a filter in its address shows only that."""
    fill(board)
    page = open_page(board.url, "?status=error,nonsense&id=-")
    expect(page.find(".card")).to_have_count(8)
    expect(page.page.get_by_label("Error")).to_be_checked()
    expect(page.page.get_by_label("Done")).not_to_be_checked()
    expect(page.find("#filter-id")).to_have_value("-")


def test_no_match_is_reported(board: StandIn, open_page: Open) -> None:
    """It is another state than no job, and offers to show all jobs."""
    fill(board)
    page = open_page(board.url, "?id=missing")
    expect(page.find("#empty p").first).to_have_text("No job matches the filter.")
    page.page.get_by_role("button", name="Show all jobs").click()
    expect(page.find(".card")).to_have_count(40)
    expect(page.find("#filter-id")).to_have_value("")
