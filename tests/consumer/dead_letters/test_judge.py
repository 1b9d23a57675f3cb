"""What keeps a dead letter where it is, as its headers tell."""

from __future__ import annotations

import pytest

from bridge.consumer.dead_letters.judge import Outcome, outcome_unread
from bridge.consumer.dead_letters.letter import as_letter
from bridge.errors import DeadLetterReason
from tests.consumer.dead_letters.letters import Sent, consumed, payload, sent


_REFUSED = {"bridge_refused_topic": b"jobs", "bridge_refused_ce_id": b"a-1"}


def outcome(letter: Sent, reason: str | None = None) -> Outcome | None:
    """Judge a letter of the topic `jobs`."""
    return outcome_unread(as_letter(consumed(letter)), "jobs", reason)


@pytest.mark.parametrize(
    "reason",
    sorted(
        set(DeadLetterReason)
        - {"after_terminal", "invalid_preview", "refused_by_broker"}
    ),
)
def test_what_did_not_conform_is_read_again(reason: str) -> None:
    """Whatever this version's word was for it: another version decides anew."""
    assert outcome(sent(b"{}", reason)) is None


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (sent(payload("job-1"), "after_terminal"), Outcome.AFTER_TERMINAL),
        (sent(b"\x89PNG", "invalid_preview"), Outcome.INVALID_PREVIEW),
        (
            sent(b"{", "too_large", more={"bridge_truncated": b"true"}),
            Outcome.TRUNCATED,
        ),
        (sent(payload("job-1"), "too_pretty"), Outcome.UNKNOWN_REASON),
        (Sent(payload("job-1")), Outcome.FOREIGN),
        (sent(payload("job-1")).without("ce_id"), Outcome.FOREIGN),
        (sent(payload("job-1")).without("ce_source"), Outcome.FOREIGN),
        (sent(payload("job-1")).without("bridge_reason"), Outcome.FOREIGN),
    ],
)
def test_what_stays(letter: Sent, expected: Outcome) -> None:
    """A valid payload alone is not enough: order, wholeness and origin matter."""
    assert outcome(letter) is expected


def test_a_record_of_another_topic_is_no_event() -> None:
    """Gaps and previews can be refused as well."""
    refused = _REFUSED | {"bridge_refused_topic": b"jobs.gaps"}
    letter = sent(b"{}", "refused_by_broker", more=refused)
    assert outcome(letter, "refused_by_broker") is Outcome.OTHER_TOPIC
