"""What growth's benchmark promises: medians, ratios, fits, options and outboxes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from benchmarks.contenders import Stage
from benchmarks.course import RunError
from benchmarks.growth import pending_program
from benchmarks.growth.__main__ import _outcome, plan_of
from benchmarks.growth.accounts import ManyAccounts
from benchmarks.growth.axes import AXES, Fit, Point, fit, flatness, spreads
from benchmarks.growth.figures import Growth, load
from benchmarks.growth.pending import filled
from benchmarks.growth.report import markdown, verdicts
from benchmarks.growth.runs import Amounts
from benchmarks.traffic import Traffic
from benchmarks.upstream import Upstream
from bridge.job_status import parse
from tests.benchmarks.runs import MACHINE
from tests.kit.broker import KafkaBroker


def _points(axis: str, name: str, costs: dict[int, list[float]]) -> list[Point]:
    return [
        Point(axis, value, {name: cost})
        for value, turns in costs.items()
        for cost in turns
    ]


def test_figures_are_summed_up_by_size() -> None:
    """A size has the median of its turns and their extremes; sizes are in order."""
    points = [
        *_points("sessions", "flood_us", {100: [5.0, 1.0, 3.0], 1: [2.0]}),
        *_points("partitions", "flood_us", {1: [9.0]}),
        Point("sessions", 1000, {"rate_us": 7.0}),
    ]

    found = spreads(points, "sessions", "flood_us")

    assert list(found) == [1, 100]
    assert (found[100].median, found[100].lowest, found[100].highest) == (3, 1, 5)


def test_flatness_is_the_dearest_in_cheapest_ones() -> None:
    """It tells how many times, where, and whether it is the small that is dear."""
    rising = flatness({1: 10.0, 10: 8.0, 100: 12.0})
    assert (rising.ratio, rising.lowest_at, rising.highest_at) == (1.5, 10, 100)
    assert rising.is_flat
    assert not rising.falls

    falling = flatness({1: 16.0, 10: 10.0})
    assert falling.falls
    assert not falling.is_flat


def test_a_line_is_found_again() -> None:
    """Costs that are a line's give that line, whatever their sizes."""
    line = Fit(each=20.0, kilobyte=6.0)

    found = fit({size: line.at(size) for size in (220.0, 2_220.0, 1_000_000.0)})

    assert found.each == pytest.approx(20.0)
    assert found.kilobyte == pytest.approx(6.0)


def test_a_fit_weighs_small_events_as_large_ones() -> None:
    """What is a tenth too dear at either end is blamed alike."""
    line = Fit(each=20.0, kilobyte=6.0)
    costs = {size: line.at(size) for size in (200.0, 1_000_000.0)}

    found = fit({**costs, 201.0: 1.1 * line.at(201.0), 999_999.0: costs[1_000_000.0]})

    assert found.at(200) == pytest.approx(1.05 * line.at(200), rel=0.01)
    assert found.at(1_000_000) == pytest.approx(line.at(1_000_000), rel=0.01)


def test_verdicts_say_how_far_from_flat_it_is() -> None:
    """Each cost has a sentence with yes or no, the ratio and both ends."""
    axis = AXES["sessions"]
    points = [
        Point("sessions", 1, {"flood_us": 10.0, "rate_us": 400.0, "events": 9_990}),
        Point("sessions", 1000, {"flood_us": 31.0, "rate_us": 300.0, "events": 9_990}),
    ]

    flood, rate, account = verdicts(axis, points)

    assert "flat within 1.5: no, 3.10 times (it rises: 10.0 us at 1, 31.0" in flood
    assert "flat within 1.5: yes, 1.33 times (it falls: 300.0 us at 1,000" in rate
    # 21 us an event, 9,990 events, 999 accounts more.
    assert "each account more took 210 us" in account


def test_what_a_size_explains_is_held_against_the_fit() -> None:
    """An event's cost may grow with its size, and not beyond that."""
    figures = {"events_per_second": 1.0, "peak_bytes": 1.0}
    costs = {224: 20.0, 20_224: 200.0, 1_000_224: 6_000.0}
    points = [
        Point("payload", size, {**figures, "event_bytes": size, "flood_us": cost})
        for size, cost in costs.items()
    ]

    (verdict,) = verdicts(AXES["payload"], points)

    assert "us a KB" in verdict
    assert "yes" in verdict
    assert "20,224 bytes" in verdict


def test_report_names_flaws_and_who_was_in_the_way() -> None:
    """What was lost stands beside the figures, and the benchmark hasn't passed."""
    point = Point(
        "partitions",
        6,
        {"flood_us": 15.0, "others_cores": 0.5, "written_share": 0.25},
        "lost 7",
    )
    growth = Growth("1 May 2030", MACHINE, [point])

    text = markdown(growth)

    assert not growth.flawless
    assert "- 6: lost 7" in text
    assert "others used 0.50 cores" in text
    assert "25% at 6" in text


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A file has all points, and where they were made."""
    growth = Growth("1 May 2030", MACHINE, [Point("pending", 5, {"a": 1.5}, "odd")])
    file = tmp_path / "figures.json"

    file.write_text(growth.json())

    assert load(file) == growth


def test_quick_is_once_and_small() -> None:
    """All axes are tried, at two sizes, and one of them can be named."""
    quick = plan_of(["--quick"])
    assert [axis.name for axis in quick.axes] == list(AXES)
    assert quick.turns == 1
    assert all(len(axis.values) == 2 for axis in quick.axes)

    (axis,) = plan_of(["--quick", "--axes", "payload", "--turns", "4"]).axes
    assert axis.name == "payload"


def test_a_run_that_fails_is_told_and_others_go_on() -> None:
    """It is a point without figures, which the report names."""

    def fail() -> Point:
        raise RunError("bridge ended\nits log")

    failed = _outcome(AXES["sessions"], 10, fail)
    assert (failed.value, failed.figures) == (10, {})

    points = [*_points("sessions", "rate_us", {1: [400.0], 10: [500.0]}), failed]
    growth = Growth("1 May 2030", MACHINE, points)
    assert not growth.flawless
    assert "- 10: failed: bridge ended\n" in markdown(growth)
    assert "1.25 times" in markdown(growth)


def test_the_largest_outbox_can_be_chosen() -> None:
    """Sizes above it are left out, and it is the last one."""
    axes = {axis.name: axis for axis in plan_of(["--pending", "50000"]).axes}

    assert axes["pending"].values == [1_000, 10_000, 50_000]
    assert axes["partitions"].values == AXES["partitions"].values


@pytest.mark.parametrize("wrong", [["--axes", "size"], ["--turns", "0"]])
def test_wrong_options_are_errors(wrong: list[str]) -> None:
    """Nothing is measured that wasn't asked for."""
    with pytest.raises(SystemExit):
        plan_of(wrong)


def test_each_size_goes_first_once() -> None:
    """Turns begin at another size each time, and have all sizes."""
    plan = plan_of(["--turns", "3"])
    axis = AXES["sessions"]

    order = list(plan.order(axis))

    assert order[0::4] == [1, 10, 100]
    assert sorted(order) == sorted([*axis.values] * 3)


def test_events_of_a_flood_go_down_with_their_size() -> None:
    """A run of large events is no longer than one of small ones, nor empty."""
    amounts = Amounts(100_000, 3, 1.5)

    counts = [amounts.large(size) for size in AXES["payload"].values]

    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 100


def test_a_bridge_gets_all_accounts(tmp_path: Path) -> None:
    """Its file lists the accounts that the firehose writes to."""
    traffic = Traffic(10, accounts=5)
    upstream = Upstream("ws://127.0.0.1:1", "http://127.0.0.1:1")

    ManyAccounts().process(Stage(upstream, "127.0.0.1:2", "jobs", traffic, tmp_path))

    settings = tomllib.loads((tmp_path / "bridge.toml").read_text())
    assert [one["client_id"] for one in settings["accounts"]] == traffic.client_ids


def test_outboxes_that_find_no_room_are_an_error(tmp_path: Path) -> None:
    """The option that takes fewer rows is named before anything is written."""
    broker = KafkaBroker("127.0.0.1:1")

    with (
        pytest.raises(RunError, match="PENDING="),
        filled(broker, tmp_path, [10**15], 1, lambda _: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_outbox_is_filled_with_whole_jobs_in_order() -> None:
    """Records are of conforming events, and each job's begin and end in their place."""
    records = [one for run in pending_program._records("jobs", 2_000) for one in run]

    steps: dict[bytes, list[str]] = {}
    for record in records:
        status = parse(record.value.decode())
        assert status.key == record.key
        steps.setdefault(status.key, []).append(status.status)
    assert len(records) == 2_000
    assert len(steps) == 200
    assert all(
        told == ["processing", *["in_progress"] * 8, "done"] for told in steps.values()
    )


def test_rows_wait_in_a_filled_outbox(tmp_path: Path) -> None:
    """They are there for the next process, which can accept more on top."""
    figures = pending_program._fill(tmp_path, "jobs", 1_500)
    assert figures["disk_bytes"] > 1_500 * 100

    with pending_program._outbox(tmp_path) as outbox:
        pending_program._open_topic(outbox, "jobs")
        assert outbox.statistics.rows == 1_500
        told = pending_program._accepting(outbox, "jobs", 700)
        assert outbox.statistics.rows == 2_200
    assert told["accept_us"] > 0
