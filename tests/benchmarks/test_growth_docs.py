"""What the docs say of growth is what was measured: tables, pictures and sums."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.growth import page, plots
from benchmarks.growth.axes import AXES, Axis, Fit
from benchmarks.growth.figures import COMMITTED, load
from benchmarks.growth.sizing import Costs, Load, needs_of


_COSTS = Costs(
    base_bytes=60e6,
    account_bytes=70e3,
    rate_us=500.0,
    size=Fit(each=20.0, kilobyte=6.0),
    row_bytes=250.0,
    drained_a_second=50_000.0,
)

# 100 events/s, a quarter of them with 20 KB of preview: 5 KB of preview an event.
_LOAD = Load(
    accounts=1_010,
    jobs_a_day=2_160_000,
    events_a_job=4,
    previews_a_job=1,
    preview_bytes=20_000,
    peak=20,
    job_seconds=10,
)


def test_the_page_shows_the_figures() -> None:
    """Tables and what follows from them are those of the committed figures."""
    text = page.PAGE.read_text()

    assert page.build(text, load(COMMITTED)) == text


def test_figures_without_an_axis_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The docs keep what they have, and it is said what is missing."""
    file = tmp_path / "growth.json"
    growth = load(COMMITTED)
    points = [point for point in growth.points if point.axis != "pending"]
    file.write_text(replace(growth, points=points).json())
    before = COMMITTED.read_text()

    assert page.main(["--figures", str(file)]) == 1
    assert "has no pending" in capsys.readouterr().out
    assert COMMITTED.read_text() == before


def test_a_block_is_written_anew() -> None:
    """What stood between the marks is replaced, and all else left as it is."""
    text = "before\n<!-- growth: sessions -->\nold\n<!-- growth: end -->\nafter\n"

    found = page.build(text, load(COMMITTED))

    assert found.startswith("before\n<!-- growth: sessions -->\n")
    assert found.endswith("\n<!-- growth: end -->\nafter\n")
    assert "old" not in found
    assert "| 1,000 |" in found


@pytest.mark.parametrize("axis", AXES.values(), ids=list(AXES))
def test_pictures_show_the_figures(axis: Axis) -> None:
    """Each tells in words what was measured, is small, and knows the dark."""
    svg = plots.file_of(axis.name).read_text()
    root = ET.fromstring(svg)  # noqa: S314 - our own file
    description = root.findtext("{http://www.w3.org/2000/svg}desc")

    assert description == plots.describe(axis, load(COMMITTED))
    assert len(svg) < 60_000
    _, _, drawing = svg.partition("</style>")
    assert not re.findall(r"#[0-9a-f]{6}", drawing)
    assert "prefers-color-scheme: dark" in svg


@pytest.mark.parametrize("axis", AXES.values(), ids=list(AXES))
def test_pictures_can_be_drawn_again(axis: Axis) -> None:
    """The figures and the same matplotlib give the same file."""
    version = pytest.importorskip("matplotlib").__version__
    svg = plots.file_of(axis.name).read_text()
    if f"with matplotlib {version}." not in svg:
        pytest.skip("drawn with another matplotlib")

    assert plots.draw(axis, load(COMMITTED)) == svg


def test_needs_are_the_load_times_what_it_costs() -> None:
    """Events, bytes, cores, memory, disk and times follow from the formulas."""
    needs = needs_of(_LOAD, _COSTS)

    assert needs.mean == 100
    assert needs.peak == 2_000
    assert needs.kafka_bytes == 2_000 * 5_540
    assert needs.day_bytes == 8_640_000 * 5_540
    assert needs.cores == pytest.approx(2_000 * (500 + 6 * 5) / 1e6)
    assert needs.in_flight == 2_000 / 4 * 10
    assert needs.memory_bytes == pytest.approx(
        60e6 + 1_009 * 70e3 + 2_160_000 * 25 / 24 * 14 + 5_000 * 940
    )
    assert needs.outage_rows == 7_200_000
    assert needs.outage_bytes == 7_200_000 * 5_250
    # 20 us a row and 30 for its preview: 20,000/s, 2,000 of them for what comes.
    assert needs.drain_seconds == pytest.approx(7_200_000 / 18_000)
    assert needs.sockets == 1_010
    assert needs.pings == 505
    assert needs.start_seconds == 10


def test_few_events_are_taken_to_wake_as_often_as_a_thousand() -> None:
    """Below the rate at which a cost was measured cores are an upper bound."""
    small = Load(1, 86_400, 10, 0, 0, 1, 30)

    needs = needs_of(small, _COSTS)

    assert needs.peak == 10
    assert needs.cores == pytest.approx(0.5)
    assert needs.pings == 0.5
    assert needs.start_seconds == 0
