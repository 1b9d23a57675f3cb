"""Gaps and dead letters: what an operator opens the board for."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.scenes import a_gap, ago, fill, reason_of
from tests.browser.stand_in import StandIn


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
