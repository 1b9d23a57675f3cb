"""
Dead letters for people, and their way back.

`overview` counts and keeps them, `view` shows them. Nothing here writes to Kafka:
what is replayed is handed to whoever has an outbox for it, `bridge.replay`.
"""

from bridge.consumer.dead_letters.letter import NO_REASON, Letter
from bridge.consumer.dead_letters.overview import latest_letters, reasons_of
from bridge.consumer.dead_letters.view import (
    letters_as_lines,
    reasons_as_json,
    show_letters,
    show_reasons,
)


__all__ = [
    "NO_REASON",
    "Letter",
    "latest_letters",
    "letters_as_lines",
    "reasons_as_json",
    "reasons_of",
    "show_letters",
    "show_reasons",
]
