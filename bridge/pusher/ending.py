"""
The end of a connection as a value, and how a server's last words become one.

Which code means what stands in `closing`; what the session does about an end
stands in `session`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bridge.errors import ConnectionLostError
from bridge.pusher.closing import Rule, Verdict, judge
from bridge.pusher.protocol import ServerError


__all__ = ["Ending", "LastWords"]

# soketi and Reverb send `pusher:error` and end the connection in the same
# moment. An error that came long before the end says nothing about the end.
_ERROR_BEFORE_END_SECONDS: Final = 5.0

# Codes below are the WebSocket's own; a Pusher server's error says more.
_FIRST_PUSHER_CODE: Final = 4000


class Ending(msgspec.Struct, frozen=True):
    """
    How an attempt ended.

    Attributes:
        message: A sentence for a person, without a full stop.
        verdict: What it means for the next attempt.
        code: Close code, Pusher code or HTTP status, if there was one.
        advice: What the user has to do, if the verdict is terminal.
        deaf: Whether the connection stood and an answer didn't come through it.
    """

    message: str
    verdict: Verdict
    code: int | None = None
    advice: str = ""
    deaf: bool = False


class LastWords:
    """
    What the server said in its last `pusher:error` on one connection.

    Such an error alone ends nothing: soketi and Reverb keep the connection open
    after many of them. It counts once the connection ends, or when something
    that should have come did not.
    """

    def __init__(self) -> None:
        self._error: ServerError | None = None
        self._at = 0.0

    def hear(self, error: ServerError, now: float) -> None:
        """
        Remember an error.

        Args:
            error: What the server said.
            now: When, monotonic.
        """
        self._error = error
        self._at = now

    def lost(self, loss: ConnectionLostError, now: float) -> Ending:
        """
        Judge a connection that ended by itself.

        Pusher's own servers send a close code alone, soketi the code and an
        error, Reverb an error alone: the code is taken from either.

        Args:
            loss: How the connection ended.
            now: When, monotonic.

        Returns:
            The end, with the close code's verdict or the error's.
        """
        code, detail, error = loss.code, str(loss), self._error
        if error is not None and now - self._at < _ERROR_BEFORE_END_SECONDS:
            if error.code is not None and (code is None or code < _FIRST_PUSHER_CODE):
                code = error.code
            detail = f"{detail}, having said {error.message!r}"
        return _by_rule(judge(code), detail, code)

    def unanswered(self, missing: str) -> Ending:
        """
        Judge a connection that we end because something did not come.

        Reverb keeps a connection open whose subscription or app it refuses, and
        says so in an error that names no channel: that error is the answer.

        Args:
            missing: What did not come, and for how long.

        Returns:
            The end, with the verdict of the error if there was one.
        """
        error = self._error
        if error is None or error.code is None:
            return Ending(missing, Verdict.RETRY_LATER)
        detail = f"{missing}; the server had said {error.message!r}"
        return _by_rule(judge(error.code), detail, error.code)


def _by_rule(rule: Rule, detail: str, code: int | None) -> Ending:
    return Ending(f"{rule.meaning} ({detail})", rule.verdict, code, rule.advice)
