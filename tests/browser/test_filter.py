"""The filter: chosen on the page, kept in its address, done by the server."""

from __future__ import annotations

from urllib.parse import parse_qs

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import fill
from tests.browser.stand_in import StandIn


def test_id_is_asked_for_once_it_was_typed(board: StandIn, open_page: Open) -> None:
    """Typing asks the server once, for a part of the id, and the address keeps it."""
    ids = fill(board)
    page = open_page(board.url)
    page.wait_standing("Live")
    before = len(board.asked)
    page.find("#filter-id").press_sequentially(ids[3][:8], delay=20)

    expect(page.find(".card")).to_have_count(1)
    expect(page.find("#count")).to_have_text("1 that match")
    assert [parse_qs(each) for each in board.asked[before:]] == [{"id": [ids[3][:8]]}]
    assert page.page.url == f"{board.url}?id={ids[3][:8]}"


def test_filter_ends_a_pause(board: StandIn, open_page: Open) -> None:
    """Whoever asks for something else while the page stands still gets to see it."""
    fill(board)
    page = open_page(board.url)
    page.wait_standing("Live")
    page.find("#pause").click()
    page.wait_standing("Paused")
    page.page.get_by_label("Done").check()

    page.wait_standing("Live")
    expect(page.find(".card")).to_have_count(8)
    expect(page.find("#pause")).to_have_text("Pause")


def test_statuses_are_chosen_together(board: StandIn, open_page: Open) -> None:
    """Each status that is chosen is shown; none chosen shows all."""
    fill(board)
    page = open_page(board.url)
    page.page.get_by_label("Done").check()
    expect(page.find(".card")).to_have_count(8)
    page.page.get_by_label("Error").check()

    expect(page.find(".card")).to_have_count(16)
    assert page.page.url == f"{board.url}?status=done%2Cerror"
    page.page.get_by_role("button", name="Clear filter").click()
    expect(page.find(".card")).to_have_count(40)
    assert page.page.url == board.url


def test_address_brings_the_filter_back(board: StandIn, open_page: Open) -> None:
    """A page that is opened with a filter in its address shows that and no other."""
    fill(board)
    page = open_page(board.url, "?status=error,nonsense&id=-")

    expect(page.find(".card")).to_have_count(8)
    expect(page.page.get_by_label("Error")).to_be_checked()
    expect(page.page.get_by_label("Done")).not_to_be_checked()
    expect(page.find("#filter-id")).to_have_value("-")
    assert [parse_qs(each) for each in board.asked] == [
        {"status": ["error"], "id": ["-"]}
    ]


def test_nothing_that_matches_is_said(board: StandIn, open_page: Open) -> None:
    """No match is another state than no job, with the way back beside it."""
    fill(board)
    page = open_page(board.url, "?id=nobody")

    expect(page.find("#nothing p")).to_have_text("No job matches the filter.")
    page.page.get_by_role("button", name="Show all jobs").click()
    expect(page.find(".card")).to_have_count(40)
    expect(page.find("#filter-id")).to_have_value("")
