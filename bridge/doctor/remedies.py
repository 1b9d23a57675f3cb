"""
A problem in two parts: what was found, and what to do about it.

Rooms say both in one sentence, which a person reads in a log. Here the one is taken
from the other where a room's own words are used.
"""

from __future__ import annotations

import re

from bridge.errors import BridgeError, ExitCode


__all__ = ["ProblemError", "problem_of", "sentence", "split"]

# How the part of a sentence begins that says what to do.
_ADVICE = re.compile(
    r"[.:;,] +(?:and )?(?=(?:a private authority|check|choose|create|did you mean|"
    r"enable|expected|give|grant|kafka\.|look|lower|register|renew|run|schema_registry\.|see|set|stop|use|"
    r"\S+ is what encrypts|what it wants|it must|their policy)\b)",
    re.IGNORECASE,
)


class ProblemError(BridgeError):
    """
    What keeps a step from its end: note it, and go no further on this way.

    Attributes:
        detail: What was found.
        remedy: What to do about it.
        exit_code: What the bridge would exit with.
    """

    def __init__(
        self, detail: str, remedy: str = "", exit_code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.exit_code = exit_code  # type: ignore[misc]


def problem_of(error: BridgeError) -> ProblemError:
    """Take a room's sentence apart."""
    if isinstance(error, ProblemError):
        return error
    detail, remedy = split(str(error))
    return ProblemError(detail, remedy, error.exit_code)


def split(text: str) -> tuple[str, str]:
    """Give what was found and what to do; the second may be empty."""
    text = " ".join(text.split())
    found = _ADVICE.search(text)
    if found is None:
        return text.rstrip("."), ""
    return text[: found.start()], sentence(text[found.end() :].rstrip("."))


def sentence(text: str) -> str:
    """Begin with a capital, unless it begins with a setting's name."""
    first, *_ = text.split(maxsplit=1) or [""]
    return text if "." in first or "_" in first else text[:1].upper() + text[1:]
