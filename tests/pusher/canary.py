"""Something private, and whether it can be found in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator


CANARY = "sEcret4Canary9"
NUMBER = 9_315_722_860
"""The same as a number."""


def shows_canary(text: str) -> bool:
    """Tell whether either stands in a text, as it is or in JSON's escapes."""
    return any(
        CANARY.lower() in spelled.lower() or str(NUMBER) in spelled
        for spelled in _spelled(text)
    )


def _spelled(text: str) -> Iterator[str]:
    # Escapes in escapes, as often as texts are encoded in texts.
    for _ in range(6):
        yield text
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
        text = text.replace("\\\\", "\\")
