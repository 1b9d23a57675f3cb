"""The defects: what each breaks, and which tests must catch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


__all__ = ["MUTANTS", "Mutant"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One seeded defect.

    Attributes:
        name: Its patch's name without `.patch`.
        defect: What it breaks, in words.
        caught_by: The tests that must fail, by pytest's names; without parameters one
            of its cases has to.
    """

    name: str
    defect: str
    caught_by: tuple[str, ...]

    @property
    def needs_servers(self) -> bool:
        """Whether those tests need Kafka or soketi."""
        return any(test.startswith("tests/e2e/") for test in self.caught_by)

    @property
    def patch(self) -> Path:
        """Its patch."""
        return _FOLDER / f"{self.name}.patch"


_MODELS = "tests/models/"
_DELIVERY = (
    f"{_MODELS}test_delivery.py::test_whatever_happens_each_event_arrives_in_order"
)
_DELIVERY_IDEMPOTENT = f"{_DELIVERY}[idempotent]"
_DELIVERY_TRANSACTIONAL = f"{_DELIVERY}[transactional]"
_LATE_COMMIT = (
    f"{_MODELS}test_delivery.py::test_a_late_commit_is_refused_before_the_log_is_read"
)
_STORE = f"{_MODELS}test_store.py::test_the_store_agrees_with_its_model"
_ORDER = f"{_MODELS}test_order.py::test_events_are_judged_by_all_that_came_before"
_COVERAGE = f"{_MODELS}test_coverage.py::test_what_was_missed_lies_in_a_gap"
_GAP_RECORDS = (
    f"{_MODELS}test_gap_records.py::test_the_last_record_of_a_gap_is_what_happened"
)
_LIMITS = f"{_MODELS}test_rate_limits.py::"

MUTANTS = (
    Mutant(
        "01-fence-skipped",
        "A restarted relay has other transactional ids than the process before it,"
        " whose late commit is applied.",
        (f"{_LATE_COMMIT}[True]", _DELIVERY_TRANSACTIONAL),
    ),
    Mutant(
        "02-fence-after-reading",
        "After a failure the log is read before the transactional ids are initialized.",
        (f"{_LATE_COMMIT}[False]",),
    ),
    Mutant(
        "03-acknowledged-before-commit",
        "Rows of a transaction are acknowledged before it is committed.",
        (_DELIVERY_TRANSACTIONAL,),
    ),
    Mutant(
        "04-failure-taken-for-an-answer",
        "A batch that failed counts as delivered.",
        (_DELIVERY_IDEMPOTENT,),
    ),
    Mutant(
        "05-rows-swapped",
        "The first two rows of each batch change places.",
        (_DELIVERY_IDEMPOTENT, _DELIVERY_TRANSACTIONAL),
    ),
    Mutant(
        "06-sent-twice",
        "What a resumed partition finds in the log is sent again.",
        (
            _DELIVERY_IDEMPOTENT,
            _DELIVERY_TRANSACTIONAL,
            "tests/e2e/test_restart.py::test_a_file_from_before_an_acknowledgement_learns_from_the_log",
        ),
    ),
    Mutant(
        "07-gap-never-closed",
        "The second record of a gap, which closes it, isn't written.",
        (
            _COVERAGE,
            _GAP_RECORDS,
            "tests/e2e/test_gaps.py::test_the_time_without_a_bridge_is_a_gap_and_so_is_that_before_the_first",
        ),
    ),
    Mutant(
        "08-ended-jobs-forgotten",
        "A restarted process forgets which jobs have ended.",
        (_ORDER,),
    ),
    Mutant(
        "09-late-event-published",
        "A second end of a job, after a restart, is published on its topic.",
        (
            _ORDER,
            "tests/e2e/test_events.py::test_steps_back_are_marked_and_late_events_are_dead_letters",
        ),
    ),
    Mutant(
        "10-webhook-before-commit",
        "A webhook is answered with 2xx before it is on disk.",
        (
            "tests/gaps/test_webhook_flood.py::test_kill_loses_nothing_that_was_answered",
            "tests/gaps/test_webhook_disk.py::test_answer_waits_for_the_commit",
        ),
    ),
    Mutant(
        "11-token-not-read-again",
        "A token that dryAPI has refused is used until the process ends.",
        (
            "tests/e2e/test_accounts.py::test_a_token_that_is_revoked_and_replaced_costs_one_gap",
        ),
    ),
    Mutant(
        "12-fragment-for-a-message",
        "The first fragment of a message is taken for a whole one.",
        (
            "tests/pusher/test_frames.py::test_rows_24_39_41_whatever_a_server_sends_is_what_wsproto_decodes",
        ),
    ),
    Mutant(
        "13-sequence-skipped",
        "Now and then a sequence number is left out.",
        (
            _STORE,
            "tests/e2e/test_events.py::test_every_event_arrives_once_in_order_and_as_designed",
        ),
    ),
    Mutant(
        "14-librdkafkas-partitioner",
        "Keys are spread as librdkafka does by default, not as Java does.",
        (
            "tests/e2e/test_events.py::test_every_event_arrives_once_in_order_and_as_designed",
        ),
    ),
    Mutant(
        "15-since-from-the-answer",
        "A gap begins when the last pong came, not when its ping was sent.",
        (
            "tests/pusher/test_session_proofs.py::test_a_quiet_connection_is_proved_by_the_ping_that_was_answered",
            "tests/pusher/test_session_proofs.py::test_a_line_that_becomes_slower_before_it_is_cut_loses_nothing_silently",
        ),
    ),
    Mutant(
        "16-retry-after-ignored",
        "The status endpoint is called again before Retry-After is over.",
        (f"{_LIMITS}test_the_bridge_leaves_the_reserve_to_the_user",),
    ),
    Mutant(
        "17-calls-above-the-limit",
        "A call to the status endpoint counts for 50 s.",
        (f"{_LIMITS}test_no_call_is_refused_when_nobody_else_calls",),
    ),
    Mutant(
        "18-overflow-without-a-gap",
        "Events that find no room are dropped, and no gap is opened.",
        (
            "tests/e2e/test_outbox.py::test_what_has_no_room_is_a_gap_and_the_least_important_goes_first",
        ),
    ),
    Mutant(
        "19-dead-letter-trimmed",
        "A dead letter loses the white space around its bytes.",
        (
            "tests/e2e/test_bad_payloads.py::test_each_kind_goes_to_the_dead_letters_with_its_bytes_and_a_reason",
        ),
    ),
    Mutant(
        "20-outbox-not-locked",
        "Two processes may write to one outbox.",
        (
            "tests/e2e/test_refused_starts.py::test_a_second_bridge_on_an_outbox_ends_and_names_the_first",
        ),
    ),
    Mutant(
        "21-ready-without-subscription",
        "/readyz reports a bridge as ready that has no subscription.",
        (
            "tests/e2e/test_refused_starts.py::test_a_pusher_server_that_cannot_be_used_is_tried_again",
        ),
    ),
    Mutant(
        "22-secrets-not-hidden",
        "Known secrets aren't removed from log lines.",
        ("tests/e2e/test_secrets.py::test_no_road_leads_a_secret_out",),
    ),
    Mutant(
        "23-reserve-used",
        "The bridge makes the calls that are left to the user's own programs.",
        (f"{_LIMITS}test_the_bridge_leaves_the_reserve_to_the_user",),
    ),
    Mutant(
        "24-spent-calls-forgotten",
        "A restarted process remembers half of the day's calls.",
        (f"{_LIMITS}test_a_process_that_is_killed_forgets_no_call",),
    ),
    Mutant(
        "25-webhook-held-twice",
        "A restarted process holds a webhook again that dryAPI repeats.",
        (_ORDER,),
    ),
    Mutant(
        "26-unknown-jobs-not-reported",
        "A gap is resolved as if its unknown jobs had ended.",
        (f"{_MODELS}test_reconciliation.py::test_what_is_told_is_so",),
    ),
    Mutant(
        "27-identity-comes-twice",
        "Each process gives its rows the identities of the one before it.",
        (_STORE,),
    ),
    Mutant(
        "28-healed-before-forgotten",
        "A restarted process forgets which jobs of a gap webhooks have ended.",
        (_GAP_RECORDS,),
    ),
    Mutant(
        "29-refused-record-emptied",
        "The dead letter of a record that the broker refused lacks its bytes.",
        (_DELIVERY_IDEMPOTENT, _DELIVERY_TRANSACTIONAL),
    ),
    Mutant(
        "30-gap-begins-late",
        "The gap of a restart begins after the last moment that was confirmed.",
        (_COVERAGE,),
    ),
    Mutant(
        "31-waiting-row-deleted",
        "With acknowledged rows the one behind them is deleted.",
        (_STORE,),
    ),
    Mutant(
        "32-counted-though-undone",
        "What a failed transaction has counted counts.",
        (_STORE,),
    ),
    Mutant(
        "33-number-for-a-string",
        "A progress that came as a number is published as one.",
        (
            "tests/rules/test_payloads.py::test_what_deviates_is_changed_and_the_header_names_the_changes",
        ),
    ),
    Mutant(
        "34-event-lost",
        "Of the events that one read of the socket brings, the last one is kept.",
        (
            "tests/e2e/test_events.py::test_every_event_arrives_once_in_order_and_as_designed",
        ),
    ),
    Mutant(
        "35-counted-twice",
        "A batch of several records counts as one more.",
        (
            _STORE,
            "tests/e2e/test_counts.py::test_whatever_came_is_accounted_for_at_any_moment",
        ),
    ),
    Mutant(
        "36-order-lost",
        "A text frame is delivered before the message, or the violation, ahead of it.",
        (
            "tests/pusher/test_frames.py::test_rows_24_39_41_whatever_a_server_sends_is_what_wsproto_decodes",
        ),
    ),
    Mutant(
        "37-stall-forgotten",
        "A pong that waited while the process was suspended proves its ping.",
        (
            "tests/pusher/test_session_proofs.py::test_a_ping_from_before_the_stall_proves_nothing",
        ),
    ),
    Mutant(
        "38-failed-call-counted",
        "A call that failed counts for the minute, until a response corrects that.",
        (
            "tests/gaps/test_reconciler.py::test_an_incident_of_the_endpoint_costs_no_minute",
        ),
    ),
)
