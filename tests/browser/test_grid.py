"""The grid: cards that keep their place, pictures that sharpen without a flicker."""

from __future__ import annotations

from playwright.sync_api import expect

from bridge.board.jobs import Picture
from tests.browser.conftest import Open
from tests.browser.scenes import PICTURES, fill, preview_of
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
