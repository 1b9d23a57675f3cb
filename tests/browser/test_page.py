"""The page: cards that keep their place, the filter, gaps and dead letters."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from bridge.board.jobs import Picture
from tests.browser.conftest import Open
from tests.browser.scenes import PICTURES, a_gap, ago, fill, preview_of, reason_of
from tests.browser.stand_in import StandIn, now_ms


def test_picture_sharpens_without_a_flicker(board: StandIn, open_page: Open) -> None:
    """Each picture takes the last one's place decoded: none is seen empty or broken."""
    board.put("job", status="in_progress", progress=0)
    board.put_preview("job", "image/jpeg", preview_of(0))
    page = open_page(board.url)
    image = page.card("job").locator("img")
    expect(image).to_have_attribute("src", "previews/job?v=1")
    page.ask(
        """() => {
          window.seen = [];
          const box = document.querySelector(".picture");
          new MutationObserver(() => {
            const images = [...box.querySelectorAll("img")];
            window.seen.push(
              images.length === 1 && images[0].complete && images[0].naturalWidth > 0);
          }).observe(box, { childList: true });
        }"""
    )
    for stage in range(1, PICTURES):
        board.put("job", progress=stage * 10)
        board.put_preview("job", "image/jpeg", preview_of(stage))
        expect(image).to_have_attribute("src", f"previews/job?v={stage + 1}")
    board.put("job", status="done", progress=100, ended_ms=now_ms())

    expect(page.card("job").locator(".word")).to_have_text("Done")
    assert page.ask("window.seen") == [True] * (PICTURES - 1)


def test_picture_that_failed_is_fetched_again(board: StandIn, open_page: Open) -> None:
    """The same one, with the job's next word: the board may only have been away."""
    board.put("job", status="in_progress", progress=0)
    page = open_page(board.url)
    page.wait_state("Live")
    with page.page.expect_response("**/previews/job?v=1"):
        board.put("job", preview=1)
    expect(page.card("job").locator("img")).to_have_count(0)
    board.previews["job"] = Picture(1, "image/jpeg", preview_of(0))
    board.put("job", progress=50)

    expect(page.card("job").locator("img")).to_have_attribute("src", "previews/job?v=1")


def test_picture_far_away_is_not_fetched(board: StandIn, open_page: Open) -> None:
    """What is far below the window costs no request until the reader scrolls there."""
    ids = [f"job-{number}" for number in range(150)]
    for at, job_id in enumerate(ids):
        board.put(job_id, first_ms=now_ms() - 1_000 + at)
        board.put_preview(job_id, "image/jpeg", preview_of(2))
    page = open_page(board.url)
    expect(page.card(ids[-1]).locator("img")).to_have_count(1)

    expect(page.card(ids[0]).locator("img")).to_have_count(0)
    page.card(ids[0]).scroll_into_view_if_needed()
    expect(page.card(ids[0]).locator("img")).to_have_count(1)


def test_cards_keep_their_place(board: StandIn, open_page: Open) -> None:
    """An event changes its own card only; a new job is the first."""
    ids = fill(board, jobs=12)
    page = open_page(board.url)
    expect(page.find(".card")).to_have_count(12)
    page.ask("[...document.querySelectorAll('.card')].forEach((e, i) => e.nth = i)")
    board.put(ids[0], progress=99.0)
    expect(page.card(ids[0]).locator(".percent")).to_have_text("99 %")
    board.put("new")
    expect(page.card("new")).to_have_count(1)

    order = page.ask("[...document.querySelectorAll('.card')].map((e) => e.nth ?? -1)")
    assert order == [-1, *range(12)]
    shown = page.ask(
        "[...document.querySelectorAll('.id code')].map((e) => e.title)",
    )
    assert shown == ["new", *reversed(ids)]


def test_card_says_how_a_job_goes(board: StandIn, open_page: Open) -> None:
    """Progress, how long it took, what was wrong, and its origin."""
    began = now_ms() - 100_000
    board.put("job", status="in_progress", progress=45.5, first_ms=began, last_ms=began)
    page = open_page(board.url)
    card = page.card("job")
    expect(card.locator("progress")).to_have_js_property("value", 45.5)
    expect(card.locator(".percent")).to_have_text("45 %")
    expect(card.locator(".took")).to_have_text("for 1 min")
    expect(card.locator(".age")).to_have_text("quiet 1 min")
    board.put(
        "job",
        status="error",
        ended_ms=began + 9_400,
        error="no memory",
        origin="status-endpoint",
    )

    expect(card.locator(".word")).to_have_text("Error")
    expect(card.locator("progress")).to_be_hidden()
    expect(card.locator(".took")).to_have_text("in 9.4 s")
    expect(card.locator(".age")).to_have_text("1 min ago")
    expect(card.locator(".error")).to_have_text("no memory")
    expect(card.locator(".origin")).to_have_text("from the status endpoint")


def test_account_is_named_where_there_are_several(
    board: StandIn, open_page: Open
) -> None:
    """With one account its name would be noise."""
    board.put("a", account="shop")
    page = open_page(board.url)
    expect(page.card("a").locator(".account")).to_be_hidden()
    board.put("b", account="gallery")

    expect(page.card("a").locator(".account")).to_have_text("shop")
    expect(page.card("b").locator(".account")).to_be_visible()


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


@pytest.mark.parametrize(("ago_minutes", "span_minutes"), [(10, 15), (1_800, 10_080)])
def test_gap_is_drawn_where_it_was(
    board: StandIn, open_page: Open, ago_minutes: int, span_minutes: int
) -> None:
    """An old gap makes the axis longer; the present is always at its right end."""
    since = ago_minutes * 60
    board.gaps = [
        a_gap("open", since=ago(0), until=None, unknown=None),
        a_gap("old", since=ago(since), until=ago(since - 60)),
    ]
    page = open_page(board.url)
    marks = page.find("#marks span")
    expect(marks).to_have_count(2)
    axis = page.find("#marks").bounding_box()
    present, old = (each.bounding_box() for each in marks.all())
    assert axis
    assert present
    assert old
    share = (old["x"] - axis["x"]) / axis["width"]
    assert abs(share - (1 - ago_minutes / span_minutes)) < 0.02
    assert abs(present["x"] - axis["x"] - axis["width"]) < 8


def test_each_outcome_of_a_gap_is_named(board: StandIn, open_page: Open) -> None:
    """In the table, newest first, and summed up; an open gap's length grows."""
    fill(board, jobs=3)
    page = open_page(board.url)
    rows = page.find("#gap-table tbody tr")
    expect(rows.locator("td:nth-child(2)")).to_have_text(
        ["open", "closed, recovering", "5 recovered", "2 unknown", "5 recovered"]
    )
    expect(rows.locator("th").last).to_have_text("first_start")
    expect(page.find("#gaps-summary")).to_contain_text(
        "1 open · 25 recovered · 2 unknown"
    )
    length = rows.first.locator("td").nth(3)
    expect(length).to_have_text("11 s so far")


def test_dead_letter_stays_open_while_more_come(
    board: StandIn, open_page: Open
) -> None:
    """A reader of an example isn't disturbed by the next one."""
    fill(board, jobs=3)
    page = open_page(board.url)
    reason = page.find("#reasons li").first
    reason.locator("summary").click()
    expect(reason.locator(".error")).to_have_text("late")
    board.dead_letters = [
        reason_of("after_terminal", error="later", count=1_300),
        reason_of("not_json", id=None),
        reason_of("too_large"),
    ]
    expect(reason.locator(".number")).to_have_text("1,300")
    expect(reason.locator(".error")).to_have_text("later")
    expect(reason.locator("details")).to_have_js_property("open", value=True)
    expect(page.find("#dead-letters-summary")).to_have_text("1,324 by reason")
