"""Whatever can be written to the topics: it is shown as text, and nothing runs."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import a_gap, preview_of, reason_of
from tests.browser.stand_in import StandIn, now_ms
from tests.browser.watched import MARKER


SCRIPT = f"window.{MARKER} = 1; alert(1)"

TEXTS = {
    "element": f"<script>{SCRIPT}</script>",
    "handler": f'"><img src=x onerror="{SCRIPT}"><svg onload="{SCRIPT}">',
    "frame": f"<iframe srcdoc='<script>parent.{SCRIPT}</script>'></iframe>",
    "address": f"javascript:{SCRIPT}",
    "template": f"${{{SCRIPT}}} {{{{{SCRIPT}}}}} </template><script>{SCRIPT}</script>",
    "path": f"../..//evil.example/?x=<b>&v=2#'{SCRIPT}'",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_in_every_field_is_text(
    board: StandIn, open_page: Open, text: str
) -> None:
    """HTML and script in each field are shown as text."""
    board.put(
        text,
        account=text,
        status=text,
        error=text,
        preview_note=text,
        origin=text,
        result_url=text,
    )
    board.put("other", account="second")
    board.gaps = [a_gap(text, client_id=text, cause=text)]
    board.dead_letters = [reason_of(text, id=text, text=text, error=text)]
    board.shown["note"] = text
    page = open_page(board.url)
    page.wait_state("Live")

    card = page.card(text)
    expect(card.locator(".error")).to_have_text(text)
    # Text of one line is cut.
    for line in (".word", ".account"):
        expect(card.locator(line)).to_contain_text(text[:50])
    expect(page.find("#notice")).to_have_text(text)
    expect(page.find("tbody th")).to_contain_text(text[:50])
    page.find("#reasons summary").click()
    expect(page.find("#reasons .error")).to_have_text(text)
    expect(page.find("#reasons .text")).to_have_text(text)
    # Nothing has become an element or a link.
    strangers = "main :is(script, iframe, object, embed, style), main img[src=x]"
    assert page.find(strangers).count() == 0
    assert page.find("main a:not([hidden])").count() == 0


def test_preview_that_is_no_picture_leaves_the_last_one(
    board: StandIn, open_page: Open
) -> None:
    """Broken bytes and 20 MB of them leave the picture that was there."""
    board.put("job")
    board.put_preview("job", "image/jpeg", preview_of(3))
    page = open_page(board.url)
    image = page.card("job").locator("img")
    expect(image).to_have_attribute("src", "previews/job?v=1")

    with page.page.expect_response("**/previews/job?v=2"):
        board.put_preview("job", "image/jpeg", b"\xff\xd8\xff" + bytes(20_000_000))
    with page.page.expect_response("**/previews/job?v=3"):
        board.put_preview("job", "image/png", b"\x89PNG\r\n\x1a\n broken")
    board.put_preview("job", "image/jpeg", preview_of(6))

    expect(image).to_have_attribute("src", "previews/job?v=4")
    assert image.evaluate("(image) => image.naturalWidth") > 0


def test_huge_texts_are_cut(board: StandIn, open_page: Open) -> None:
    """Megabytes in each field leave a page that is as wide as its window."""
    huge = "W" * 1_000_000
    board.put(huge, account=huge, status=huge, error=huge, preview_note="n" * 5_000)
    board.put("other", account="second")
    board.gaps = [a_gap("g", client_id=huge, cause=huge, jobs_in_flight=2**53)]
    board.dead_letters = [reason_of(huge, id=huge, text=huge, error=huge)]
    board.shown |= {"note": huge[:5_000], "events_per_second": 1e300, "lag": 2**53}
    page = open_page(board.url, viewport={"width": 360, "height": 780})
    page.wait_state("Live", 20)
    page.find("#reasons summary").click()

    expect(page.find(".card")).to_have_count(2)
    page.check_width()
    assert page.ask("document.body.textContent.length") < 20_000
    # All of the id is there for who copies it.
    assert page.find(".id code").first.get_attribute("title") in {huge, "other"}


def test_times_out_of_range_are_shown(board: StandIn, open_page: Open) -> None:
    """Moments that no calendar has break nothing."""
    board.put("late", first_ms=-(2**53), ended_ms=2**53)
    board.put("early", first_ms=2**53, last_ms=2**53)
    board.gaps = [
        a_gap("wide", since="0001-01-01T00:00:00Z", until="9999-12-31T23:59:59Z"),
        a_gap("early", since="1970-01-01T00:00:00Z", until="1970-01-01T00:00:00Z"),
        a_gap("never", since=None, until=None, unknown=None),
    ]
    page = open_page(board.url)

    expect(page.find(".card")).to_have_count(2)
    expect(page.find("#marks span")).to_have_count(3)


def test_ids_that_are_paths_and_halves(board: StandIn, open_page: Open) -> None:
    """An id that an address must encode requests only its own preview."""
    ids = ["a/b?c#d", "..", "%2e%2e", "\ud800", "ä ö\u202e", "constructor", "__proto__"]
    for job_id in ids:
        board.put(job_id)
        board.put_preview(job_id, "image/jpeg", preview_of(1))
    page = open_page(board.url)

    expect(page.find(".card")).to_have_count(len(ids))
    expect(page.card("a/b?c#d").locator("img")).to_have_count(1)
    expect(page.card("__proto__").locator("img")).to_have_count(1)


def test_message_that_is_no_json_is_survived(board: StandIn, open_page: Open) -> None:
    """A stream that makes no sense is left, and the page says that it is not live."""
    page = open_page(board.url)
    page.wait_state("Live")
    page.page.route(
        "**/events*",
        lambda route: route.fulfill(
            content_type="text/event-stream", body="event: snapshot\ndata: <html>\n\n"
        ),
    )
    page.find("#pause").click()
    page.find("#pause").click()

    page.wait_state("Reconnecting")
    page.page.unroute("**/events*")
    page.wait_state("Live")


def test_thousands_of_jobs_keep_the_page_small_and_smooth(
    board: StandIn, open_page: Open
) -> None:
    """5,000 jobs within seconds: never more than 200 cards, and no long halt."""
    page = open_page(board.url)
    page.wait_state("Live")
    page.ask(
        """() => {
          window.longest = 0; window.most = 0;
          let before = performance.now();
          const frame = (now) => {
            window.longest = Math.max(window.longest, now - before);
            const cards = document.querySelectorAll(".card").length;
            window.most = Math.max(window.most, cards);
            before = now;
            requestAnimationFrame(frame);
          };
          requestAnimationFrame(frame);
        }"""
    )
    now = now_ms()
    for number in range(5_000):
        board.put(f"job-{number}", first_ms=now + number, progress=number % 100)
        if number % 500 == 0:
            page.page.wait_for_timeout(250)
    expect(page.card("job-4999")).to_have_count(1)

    assert page.ask("window.most") == 200
    # No measurement: a page that stands still for a second is broken.
    assert page.ask("window.longest") < 1_000
    expect(page.find("#count")).to_have_text("the latest 200 of 5,000")
