"""A server's last words."""

from __future__ import annotations

from bridge.errors import ConnectionLostError
from bridge.pusher.closing import Verdict
from bridge.pusher.ending import LastWords
from bridge.pusher.protocol import ServerError


def _lost(code: int | None) -> ConnectionLostError:
    return ConnectionLostError("gone", code=code)


def test_an_end_without_words_is_judged_by_its_code() -> None:
    """The close code alone decides."""
    ending = LastWords().lost(_lost(4001), now=5)
    assert (ending.verdict, ending.code) == (Verdict.TERMINAL, 4001)


def test_row_21_an_error_and_an_end_without_code_are_judged_by_the_error() -> None:
    """Reverb ends TCP after its error: the error's code decides."""
    words = LastWords()
    words.hear(ServerError(4100, "full"), now=5)
    ending = words.lost(_lost(None), now=5.1)
    assert (ending.verdict, ending.code) == (Verdict.RETRY_LATER, 4100)
    assert "'full'" in ending.message


def test_a_close_code_of_pushers_outweighs_the_error() -> None:
    """Where both carry a code, the close frame's is the last word."""
    words = LastWords()
    words.hear(ServerError(4301, "too fast"), now=5)
    assert words.lost(_lost(4200), now=5).code == 4200


def test_an_error_without_code_changes_no_verdict() -> None:
    """It only adds its sentence."""
    words = LastWords()
    words.hear(ServerError(None, "hm"), now=5)
    ending = words.lost(_lost(None), now=5)
    assert (ending.verdict, ending.code) == (Verdict.RETRY_NOW, None)


def test_an_old_error_says_nothing_about_the_end() -> None:
    """An error that the connection survived is forgotten."""
    words = LastWords()
    words.hear(ServerError(4001, "no"), now=5)
    assert words.lost(_lost(None), now=60).verdict is Verdict.RETRY_NOW


def test_row_34_what_did_not_come_is_explained_by_the_error() -> None:
    """Reverb's 4009 without channel answers the pending subscription."""
    words = LastWords()
    words.hear(ServerError(4009, "unauthorized"), now=5)
    ending = words.unanswered("no answer")
    assert (ending.verdict, ending.code) == (Verdict.TERMINAL, 4009)


def test_what_did_not_come_without_an_error_is_tried_later() -> None:
    """Silence is no refusal."""
    words = LastWords()
    assert words.unanswered("no answer").verdict is Verdict.RETRY_LATER
    words.hear(ServerError(None, ""), now=5)
    assert words.unanswered("no answer").verdict is Verdict.RETRY_LATER
