"""Gaps and dead letters: what an operator opens the board for."""

from __future__ import annotations

from itertools import pairwise

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import a_gap, fill, letters_of
from tests.browser.stand_in import StandIn, now_ms


def test_gaps_stand_where_they_were_in_time(board: StandIn, open_page: Open) -> None:
    """Older is further left, marks don't cover each other, and all are on the line."""
    now = now_ms()
    board.gaps = [
        a_gap(f"g{at}", since_ms=now - at * 40_000 - 3_000, until_ms=now - at * 40_000)
        for at in range(12)
    ]
    page = open_page(board.url)
    expect(page.find("#marks button")).to_have_count(12)

    boxes = [each.bounding_box() for each in page.find("#marks button").all()]
    strip = page.find("#marks").bounding_box()
    assert strip
    assert all(boxes)
    lefts = [box["x"] for box in boxes if box]
    assert lefts == sorted(lefts)
    for box in boxes:
        assert box
        assert box["x"] >= strip["x"] - 1
        assert box["x"] + box["width"] <= strip["x"] + strip["width"] + 1
    for one, other in pairwise(boxes):
        assert one
        assert other
        assert other["x"] >= one["x"] + one["width"] or other["y"] != one["y"]


def test_old_gap_widens_the_axis(board: StandIn, open_page: Open) -> None:
    """A gap of yesterday stands on a line of a week."""
    yesterday = now_ms() - 30 * 3_600_000
    board.gaps = [a_gap("g", since_ms=yesterday, until_ms=yesterday + 60_000)]
    page = open_page(board.url)
    mark, strip = page.find("#marks button"), page.find("#marks")
    expect(mark).to_have_count(1)

    box, line = mark.bounding_box(), strip.bounding_box()
    assert box
    assert line
    share = (box["x"] - line["x"]) / line["width"]
    assert abs(share - (1 - 30 / 168)) < 0.02


def test_hundreds_of_gaps_stay_a_hundred(board: StandIn, open_page: Open) -> None:
    """A page that stays open keeps the newest gaps, as many as it is sent at first."""
    page = open_page(board.url)
    page.wait_standing("Live")
    now = now_ms()
    gaps = [a_gap(f"g{at}", since_ms=now + at, until_ms=now + at) for at in range(300)]
    still_open = a_gap("old", since_ms=now - 60_000, until_ms=None)
    board.gaps = [*gaps[:150], still_open]
    expect(page.find("#marks button")).to_have_count(100)
    board.gaps = [*gaps[150:], still_open]

    expect(page.find("#marks button[data-id=g299]")).to_have_count(1)
    expect(page.find("#marks button[data-id=old]")).to_have_count(1)
    expect(page.find("#marks button")).to_have_count(100)


def test_dead_letter_stays_open_while_more_come(
    board: StandIn, open_page: Open
) -> None:
    """Whoever reads an example isn't disturbed by the next one."""
    fill(board, jobs=3)
    page = open_page(board.url)
    reason = page.find("#reasons li").first
    reason.locator("summary").click()
    expect(reason.locator(".error")).to_have_text("late")
    board.letters = [
        letters_of("after_terminal", error="later") | {"count": 1_300},
        letters_of("not_json", id=None),
        letters_of("too_large"),
    ]

    expect(reason.locator(".number")).to_have_text("1,300")
    expect(reason.locator(".error")).to_have_text("later")
    expect(reason.locator("details")).to_have_js_property("open", value=True)
    expect(page.find("#letters-summary")).to_have_text("1,324 by reason")
