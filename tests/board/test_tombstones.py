"""Tests that a board shows nothing of a job that somebody had to erase."""

from __future__ import annotations

import json

from bridge.board.board import Board, Filter
from bridge.settings import BoardSettings
from tests.board.records import NOW_MS, Page, job_record, preview, raw_record


def _made() -> Board:
    return Board("jobs", BoardSettings(), NOW_MS - 900_000)


def test_an_erased_job_is_gone_with_its_picture() -> None:
    """Whether it had ended, still ran, or came in the same run; it may begin anew."""
    board = _made()
    image = preview()
    figures = board.figures(NOW_MS, 0.0, 0)
    board.take_jobs([job_record("a", preview=image)], NOW_MS, 0.0)
    board.take_jobs([job_record("b", "done")], NOW_MS, 0.0)
    snapshot, view = board.snapshot(Filter(), figures)
    page = Page(snapshot)
    erased = [raw_record(None, key=key) for key in (b"a", b"b", b"c", b"never")]
    board.take_jobs([job_record("c", preview=image), *erased], NOW_MS, 0.0)
    update, view = board.update(view, figures)
    page.take(update)
    assert page.jobs == {}
    assert [board.picture(one) for one in "abc"] == [None] * 3
    board.take_jobs([job_record("a")], NOW_MS, 0.0)
    page.take(board.update(view, figures)[0])
    assert page.jobs["a"]["preview"] is None
    assert board.figures(NOW_MS, 0.0, 0).in_flight == 1


def test_an_erased_preview_is_gone() -> None:
    """On a topic of their own, previews are erased by themselves."""
    board = _made()
    board.take_jobs([job_record("a", preview=preview())], NOW_MS, 0.0)
    board.take_previews([raw_record(None, key=b"a", topic="jobs.previews")])
    assert board.picture("a") is None
    data, _ = board.snapshot(Filter(), board.figures(NOW_MS, 0.0, 0))
    (job,) = json.loads(data)["jobs"]
    assert (job["preview"], job["preview_note"]) == (None, "erased")
