"""What the page says of itself: it never shows the past as if it were the present."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.scenes import fill
from tests.browser.stand_in import StandIn, now_ms
from tests.browser.watched import Watched


_HIDE = """(state) => {
  const property = { value: state, configurable: true };
  Object.defineProperty(document, "visibilityState", property);
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def _says(page: Watched, text: str) -> None:
    expect(page.find("#notice")).to_contain_text(text)


def test_it_says_that_it_connects(board: StandIn, open_page: Open) -> None:
    """Until the first word comes it says what it waits for, and shows no figure."""

    def nobody_answers(page: Page) -> None:
        page.route("**/events*", lambda _: None)

    page = open_page(board.url, before=nobody_answers)

    expect(page.find("#empty p").first).to_have_text(
        "Connecting to the board's server …"
    )
    expect(page.find("#state")).to_have_text("Connecting")
    expect(page.find("#figures .value").first).to_have_text("\N{EN DASH}")


def test_empty_topic_says_what_to_do(board: StandIn, open_page: Open) -> None:
    """Without a job it names the topic and how to get some."""
    page = open_page(board.url)

    page.wait_state("Live")
    expect(page.find("#empty")).to_contain_text("No job on the topic jobs since")
    expect(page.find("#empty code")).to_have_text(
        ["make run", "bridge check", "--since"]
    )
    expect(page.find("#gaps-summary")).to_contain_text("none since")
    expect(page.find("#dead-letters-summary")).to_have_text("none")
    board.put("first")
    expect(page.find("#empty")).to_be_hidden()
    expect(page.find(".card")).to_have_count(1)


def test_reading_from_before_is_said(board: StandIn, open_page: Open) -> None:
    """Starting and catching up are states of their own, a note is passed on."""
    board.shown |= {"reading": "starting"}
    page = open_page(board.url)
    page.wait_state("Starting")
    expect(page.find("#empty p").first).to_have_text("Opening the topics …")
    board.shown |= {"reading": "catching-up", "lag": 120_000}
    page.wait_state("Catching up")
    _says(page, "isn't current yet")
    board.shown |= {"reading": "live", "note": "The topic jobs.gaps is missing."}
    page.wait_state("Live")
    _says(page, "The topic jobs.gaps is missing.")


def test_silence_is_called_stale(board: StandIn, open_page: Open) -> None:
    """An open stream that says nothing for 5 s is not taken for the present."""
    fill(board, jobs=5)
    page = open_page(board.url)
    page.wait_state("Live")
    board.silent = True

    page.wait_state("Stale")
    _says(page, "Nothing received from the board's server since")
    board.silent = False
    page.wait_state("Live")


def test_server_away_is_said_and_comes_back(board: StandIn, open_page: Open) -> None:
    """The page says since when the server is away, and connects by itself."""
    fill(board, jobs=5)
    page = open_page(board.url)
    page.wait_state("Live")
    board.stop()

    page.wait_state("Reconnecting")
    _says(page, "No connection to the board's server since")
    said = page.find("#notice").text_content()
    # Tries meanwhile change nothing: it is read aloud once.
    page.page.wait_for_timeout(3_000)
    assert page.find("#notice").text_content() == said
    expect(page.find(".card")).to_have_count(5)
    board.start()
    page.wait_state("Live")
    expect(page.find("#notice")).to_be_empty()


def test_server_that_forgot_is_shown_anew(board: StandIn, open_page: Open) -> None:
    """After the server's restart nothing of before is left on the page."""
    fill(board, jobs=5)
    page = open_page(board.url)
    page.wait_state("Live")
    board.stop()
    board.jobs.clear()
    board.put("new")
    board.start()

    expect(page.card("new")).to_have_count(1, timeout=15_000)
    expect(page.find(".card")).to_have_count(1)


def test_too_many_browsers_is_said(board: StandIn, open_page: Open) -> None:
    """A refusal is shown with the server's message, and retried."""
    board.stop()
    board.start(max_browsers=0)
    page = open_page(board.url)

    page.wait_state("Refused")
    _says(page, "The board serves 0 browsers, its maximum.")
    expect(page.find("#empty")).to_contain_text("accepts no more pages")
    board.stop()
    board.start()
    page.wait_state("Live")


def test_pause_holds_while_the_server_is_away(board: StandIn, open_page: Open) -> None:
    """What is found out about the server meanwhile doesn't end a pause."""
    page = open_page(board.url)
    page.wait_state("Live")
    board.stop()
    page.wait_state("Reconnecting")
    board.start(max_browsers=0)
    page.wait_state("Refused")
    page.find("#pause").click()
    page.wait_state("Paused")
    opened = page.streams_opened
    page.page.wait_for_timeout(3_000)

    page.wait_state("Paused")
    assert page.streams_opened == opened


def test_hidden_page_costs_nothing(board: StandIn, open_page: Open) -> None:
    """A hidden page has no stream; shown again, it is current."""
    page = open_page(board.url)
    page.wait_state("Live")
    assert board.stream.browsers == 1
    page.ask(_HIDE, "hidden")
    opened = page.streams_opened
    board.put("meanwhile")  # a stream's end is seen with its next word
    page.page.wait_for_timeout(1_500)
    assert board.stream.browsers == 0
    page.page.wait_for_timeout(2_500)
    assert page.streams_opened == opened

    page.ask(_HIDE, "visible")
    expect(page.card("meanwhile")).to_have_count(1)
    assert board.stream.browsers == 1


def test_paused_page_stands_still(board: StandIn, open_page: Open) -> None:
    """The reader can pause the page, and resume with the current state."""
    fill(board, jobs=5)
    page = open_page(board.url)
    page.wait_state("Live")
    page.find("#pause").click()
    page.wait_state("Paused")
    before = page.find("main").inner_text()
    board.put("meanwhile")
    page.page.wait_for_timeout(2_500)

    assert page.find("main").inner_text() == before
    page.find("#pause").click()
    page.wait_state("Live")
    expect(page.card("meanwhile")).to_have_count(1)


def test_ages_go_by_the_servers_clock(board: StandIn, open_page: Open) -> None:
    """A browser whose clock is an hour late shows the same ages."""
    late = (now_ms() - 3_600_000) / 1000
    board.put("job", first_ms=now_ms() - 125_000)
    page = open_page(board.url, before=lambda page: page.clock.install(time=late))

    expect(page.find(".took")).to_have_text("for 2 min")
