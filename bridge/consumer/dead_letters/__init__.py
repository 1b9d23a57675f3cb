"""
Dead letters for people, and their way back.

`overview` counts and keeps them, `view` shows them, `replaying` finds those that can go
to the topic of jobs. Nothing here writes to Kafka: what is replayed is handed to
whoever has an outbox for it, `bridge.consumer.replay`.
"""

from bridge.consumer.dead_letters.letter import (
    NO_REASON,
    Letter,
    as_letter,
    received_at_us,
)
from bridge.consumer.dead_letters.overview import (
    Reason,
    Reasons,
    latest_letters,
    reasons_of,
)
from bridge.consumer.dead_letters.phases import Phases
from bridge.consumer.dead_letters.replaying import Choice, Replaying, Shaped, Tally
from bridge.consumer.dead_letters.view import (
    letters_as_lines,
    reasons_as_json,
    show_letters,
    show_reasons,
    show_tally,
    tally_as_json,
)


__all__ = [
    "NO_REASON",
    "Choice",
    "Letter",
    "Phases",
    "Reason",
    "Reasons",
    "Replaying",
    "Shaped",
    "Tally",
    "as_letter",
    "latest_letters",
    "letters_as_lines",
    "reasons_as_json",
    "reasons_of",
    "received_at_us",
    "show_letters",
    "show_reasons",
    "show_tally",
    "tally_as_json",
]
