"""What the judge of `make healing` finds, and what it lets pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.fates import Call, Limits, Span
from tests.chaos.healing_verdict import settling_seconds
from tests.chaos.histories import History, all_is_well, fate


def test_a_history_without_fault_has_no_finding() -> None:
    """Each job is accounted for, and what is lost is what nobody could know."""
    verdict = all_is_well().judge()
    assert verdict.findings == []
    assert verdict.jobs == {"done": 3, "error": 2}
    assert verdict.ways == {"status-endpoint": 2, "webhook": 1, "socket": 1}
    assert verdict.healed == {"status-endpoint": 2, "webhook": 1}
    assert (verdict.lost, verdict.unknown) == (1, 0)
    assert sorted(verdict.times) == pytest.approx([0.6, 2.1, 7.2])
    # Of the webhook: 10.2 s of a minute that began with the gap's end.
    assert verdict.used == pytest.approx(10.2 / 63)
    assert verdict.settled == {"status-endpoint": 2, "webhook": 1, "unknown": 0}


# -- What is found --------------------------------------------------------


def _never_ends(history: History) -> None:
    history.drop(history.of("a")[-1])


def _webhook_is_lost(history: History) -> None:
    history.drop(history.of("b")[-1])


def _heard_of_and_lost(history: History) -> None:
    history.truth.of("bare").fates["e"] = fate(
        "e", [(98, "processing", True), (104, "done", False)]
    )


def _is_late(history: History) -> None:
    history.seen[history.of("a")[-1]] = 170.5


def _was_never_seen(history: History) -> None:
    history.seen[history.of("a")[-1]] = float("inf")


def _webhook_is_late(history: History) -> None:
    history.seen[history.of("b")[-1]] = 170.5


def _ends_twice(history: History) -> None:
    history.say("bare", "a", "done", 115.0)


def _ends_both_ways(history: History) -> None:
    history.say("bare", "a", "error", 115.0, origin="status-endpoint")


def _goes_on_after_its_end(history: History) -> None:
    history.say("bare", "a", "processing", 115.0)


def _ends_otherwise(history: History) -> None:
    history.drop(history.of("f")[-1])
    history.say("bare", "f", "done", 112.0, origin="status-endpoint")


def _ends_and_runs(history: History) -> None:
    history.truth.of("bare").fates["d"].steps.pop()


def _fails_for_another_reason(history: History) -> None:
    history.truth.of("hooked").fates["b"].error_code = "INVALID_INPUT"


def _is_out_of_order(history: History) -> None:
    steps = history.truth.of("bare").fates["d"].steps
    steps.insert(0, replace(steps[0], progress="5.00"))
    history.drop(history.of("d")[-1])
    history.say("bare", "d", "processing", 118.0, progress="5.00")
    history.say("bare", "d", "done", 120.05)


def _goes_back(history: History) -> None:
    history.drop(history.of("d")[-1])
    history.say("bare", "d", "in_progress", 112.0, origin="status-endpoint")
    history.say("bare", "d", "processing", 113.0, origin="webhook")
    history.say("bare", "d", "done", 120.05)


def _never_was(history: History) -> None:
    history.say("bare", "x", "processing", 90.0)


def _is_another_accounts(history: History) -> None:
    history.say("other", "x", "processing", 90.0)


def _is_on_two_partitions(history: History) -> None:
    place = history.of("d")[-1]
    history.records[place] = replace(history.records[place], partition=1)


def _has_an_anomaly(history: History) -> None:
    history.records[0].headers["bridge_anomaly"] = b"regression"


def _names_two(history: History) -> None:
    history.records[1].headers["ce_id"] = history.records[0].headers["ce_id"]


def _is_refused(history: History) -> None:
    history.truth.of("bare").calls.append(Call(111, "a", 429))


def _asks_too_much_in_a_minute(history: History) -> None:
    calls = [Call(111 + number / 10, "a", 200) for number in range(226)]
    history.truth.of("bare").calls += calls


def _asks_too_much_in_a_day(history: History) -> None:
    account = history.truth.of("bare")
    account.limits = Limits(50, 200)
    account.calls += [Call(111 + 10 * number, "a", 200) for number in range(151)]


def _gives_webhooks_up(history: History) -> None:
    history.truth.of("hooked").undelivered = 1


def _says(client_id: str, **changes: object) -> Callable[[History], None]:
    return lambda history: history.change_gap(client_id, **changes)


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (_never_ends, "job a of bare, done at 105.000 in gap g (disconnected"),
        (_webhook_is_lost, "job b of hooked, error at 107.000 in gap g"),
        (_heard_of_and_lost, "lost, though it was told of"),
        (_is_late, "on the topic 65.5 s later by status-endpoint, 0.5 s too late"),
        (_was_never_seen, "inf s too late"),
        (_webhook_is_late, "by webhook, 0.5 s too late"),
        (_ends_twice, "job a has 2 terminal records: done at 0/3, done at 0/7"),
        (_ends_both_ways, "job a has 2 terminal records: done at 0/3, error at 0/7"),
        (_goes_on_after_its_end, "job a: processing behind its end at 0/3"),
        (_ends_otherwise, "job f: done at 0/7, and it is error"),
        (_ends_and_runs, "job d: done at 0/6, and it runs"),
        (_fails_for_another_reason, "'WORKER_TIMEOUT' at 0/5, and it is 'INVALID_"),
        (_is_out_of_order, "('processing', '5.00') at 0/6 was no event, or not in"),
        (_goes_back, "job d: processing at 0/7 is a step back"),
        (_never_was, "job x is at 0/7 and never was"),
        (_is_another_accounts, "records of other, which is no account"),
        (_is_on_two_partitions, "job d is on two partitions, the second at 1/6"),
        (_has_an_anomaly, "job a: regression at 0/0"),
        (_names_two, "one identity names two records, the second at 0/1"),
        (_is_refused, "bare was refused 1 calls"),
        (_asks_too_much_in_a_minute, "bare asked 226 times in a minute, of 225"),
        (_asks_too_much_in_a_day, "bare asked 151 times, of 150"),
        (_gives_webhooks_up, "1 webhooks of hooked never got 2xx"),
        (_says("bare", until=None), "never closed: gap g"),
        (_says("bare", healed=None), "never settled: gap g"),
        (_says("bare", unknown=None), "never settled: gap g"),
        (_says("bare", healed=(1, 0)), "1 healed by the status endpoint, and it must"),
        (_says("bare", healed=(3, 0)), "3 healed by the status endpoint, and it must"),
        (_says("bare", healed=(2, 1)), "1 healed by webhook, and it must be 0"),
        (_says("bare", unknown=1), "1 unknown, and it must be 0"),
        (_says("bare", jobs_in_flight=2), "2 in flight, and it must be 3"),
        (_says("bare", jobs_in_flight=4), "4 in flight, and it must be 3"),
        (_says("hooked", healed=(0, 0)), "0 healed by webhook, and it must be 1"),
        (_says("hooked", healed=(0, 2)), "2 healed by webhook, and it must be 1"),
        (_says("hooked", healed=(1, 1)), "1 healed by the status endpoint, and it"),
    ],
)
def test_what_is_wrong_is_found(harm: Callable[[History], None], finding: str) -> None:
    """One thing is broken in a history without fault, and is told."""
    history = all_is_well()
    harm(history)
    findings = history.judge().findings
    assert any(finding in line for line in findings), findings


def test_a_job_that_stays_unknown_must_stand_in_its_gap() -> None:
    """Its gap says so, or it is a finding of the ledger's."""
    history = all_is_well()
    history.drop(history.of("a")[-1])
    history.change_gap("bare", healed=(1, 0))
    ledger = "0 unknown, and it must be 1"
    assert any(ledger in line for line in history.judge().findings)
    history.change_gap("bare", unknown=1)
    (finding,) = history.judge().findings
    assert finding.endswith("it never ended on the topic")


# -- What is let pass -----------------------------------------------------


def test_a_repeated_record_is_counted() -> None:
    """The same record with the same identity is a late write."""
    history = all_is_well()
    history.records.append(replace(history.records[3], offset=7))
    history.seen.append(140.0)
    verdict = history.judge()
    assert (verdict.findings, verdict.repeats) == ([], 1)


def test_jobs_beyond_the_days_calls_stay_unknown() -> None:
    """They are counted, and their gap must say so."""
    history = all_is_well()
    account = history.truth.of("bare")
    account.limits = Limits(50, 200)
    account.calls += [Call(50.0 - 2 * number, "z", 200) for number in range(150)]
    history.drop(history.of("a")[-1])
    history.change_gap("bare", healed=(1, 0), unknown=1)
    verdict = history.judge()
    assert (verdict.findings, verdict.unknown) == ([], 1)


@pytest.mark.parametrize(
    ("calls", "until"),
    # Three are in flight at the end of the gap: with 34 others they fill a minute.
    [(0, 170.0), (34, 170.0), (35, 230.0), (72, 290.0)],
)
def test_limits_dictate_how_long_it_may_take(calls: int, until: float) -> None:
    """A minute for each 37 jobs and calls of Basic's, and never less than one."""
    history = all_is_well()
    account = history.truth.of("bare")
    account.limits = Limits(50, 200)
    account.calls += [Call(105.0, "z", 200)] * calls
    assert _deadline_of_a(history) == until


def test_what_is_silent_may_stay_unknown_earlier_unless_a_gap_comes() -> None:
    """A quarter of the day's calls is for silent jobs; later gaps ask with theirs."""
    history = all_is_well()
    account = history.truth.of("bare")
    account.limits = Limits(50, 200)
    account.calls += [Call(50.0 - 2 * number, "z", 200) for number in range(40)]
    account.fates["s"] = fate("s", [(111, "processing", True), (112, "error", False)])
    history.say("bare", "s", "processing", 111.05)
    verdict = history.judge()
    assert (verdict.findings, verdict.unknown) == ([], 1)
    later = replace(
        history.gaps["bare"][0],
        gap_id="h",
        since=130.0,
        until=140.0,
        opened=130.1,
        jobs_in_flight=1,
        healed=(0, 0),
        unknown=1,
    )
    history.gaps["bare"].append(later)
    (finding,) = history.judge().findings
    assert finding.endswith("it never ended on the topic")


def test_gaps_may_take_as_long_to_be_settled_as_their_jobs_to_be_asked() -> None:
    """A minute for each share of calls, beside those that have begun."""
    history = all_is_well()
    assert settling_seconds(history.truth, history.records) == 120.0
    history.truth.of("bare").limits = Limits(50, 200)
    for number in range(38):
        history.say("bare", f"n{number}", "processing", 90.0)
    assert settling_seconds(history.truth, history.records) == 240.0


def _deadline_of_a(history: History) -> float:
    history.drop(history.of("a")[-1])
    (left,) = history.waiting()
    assert left.request_id == "a"
    return left.until


def test_time_in_which_the_endpoint_fails_or_a_gap_lasts_is_no_time() -> None:
    """A minute of good time is what a job may take."""
    history = all_is_well()
    history.truth.status_faults.append(Span(115.0, 125.0))
    later = replace(history.gaps["bare"][0], gap_id="h", since=120.0, until=140.0)
    history.gaps["bare"].append(later)
    assert _deadline_of_a(history) == 195.0


def test_a_job_that_fails_without_a_gap_is_asked_about_when_it_is_silent() -> None:
    """No event and no gap tells of it: twenty seconds, and then the minute."""
    history = all_is_well()
    silent = fate("a", [(90, "processing", True), (111, "error", False)])
    history.truth.of("bare").fates["a"] = silent
    assert _deadline_of_a(history) == 191.0


def test_a_webhook_that_found_no_bridge_comes_with_its_retry() -> None:
    """The next of the documented tries is when the bridge could learn of it."""
    history = all_is_well()
    history.truth.bridge_away.append(Span(100.0, 110.0))
    # Tries at 107, 107.6, 108.8 and 111.8.
    history.seen[history.of("b")[-1]] = 171.0
    history.change_gap("hooked", healed=(0, 0))
    (finding,) = history.judge().findings
    assert finding.endswith("0 healed by webhook, and it must be 1")
    history.change_gap("hooked", healed=(0, 1))
    assert history.judge().findings == []
    history.seen[history.of("b")[-1]] = 172.0
    (finding,) = history.judge().findings
    assert "0.2 s too late" in finding


@pytest.mark.parametrize(("away_from", "findings"), [(118.0, 1), (111.0, 0)])
def test_a_webhook_counts_for_a_settled_gap_in_the_same_process(
    away_from: float, findings: int
) -> None:
    """It came after the gap, which only a bridge that was ended since may not know."""
    history = all_is_well()
    place = history.of("b")[-1]
    history.records[place] = replace(history.records[place], timestamp=110_500)
    history.truth.bridge_away.append(Span(away_from, 119.0))
    history.seen[place] = 117.5
    history.change_gap("hooked", healed=(0, 0))
    assert len(history.judge().findings) == findings


def test_an_end_at_the_edge_of_a_gap_may_be_counted_or_not() -> None:
    """Two clocks were read: neither of two numbers is a finding."""
    history = all_is_well()
    steps = history.truth.of("bare").fates["a"].steps
    steps[-1] = replace(steps[-1], at=109.95)
    assert history.judge().findings == []
    history.change_gap("bare", healed=(1, 0))
    assert history.judge().findings == []


def test_values_are_read_as_json() -> None:
    """The records of these histories are such as the bridge writes."""
    for record in all_is_well().records:
        assert record.value is not None
        assert json.loads(record.value)["status"]
