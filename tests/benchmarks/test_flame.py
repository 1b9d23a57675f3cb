"""What a profile's arithmetic, tables and graph promise, without any sampler."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from benchmarks.flame import renewed
from benchmarks.flame_graph import draw
from benchmarks.flame_report import for_documents, markdown
from benchmarks.profiles import Profile
from benchmarks.rooms import ROOMS, beyond_loops, room
from tests.benchmarks.profiles import MADE


_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("frame", "whose"),
    [
        ("Frames.events (bridge/pusher/frames.py:80)", "bridge.pusher"),
        ("Intake.accept (bridge/intake.py:143)", "bridge.intake, job_status"),
        ("parse (bridge/job_status/conforming.py:63)", "bridge.intake, job_status"),
        ("Restraint.__call__ (bridge/restraint.py:45)", "bridge: others"),
        ("EpollSelector.select (selectors.py:451)", "asyncio"),
        ("run (trio/_core/_run.py:2424)", "trio"),
        ("_reader_task (trio_websocket/_impl.py:9)", "trio-websocket, wsproto"),
        ("helper (contextlib.py:332)", "Python and others"),
        ("__init__ (<attrs generated methods outcome>:1)", "Python and others"),
        ("kernel", "kernel"),
        ("SQLite", "SQLite"),
    ],
)
def test_function_is_its_files(frame: str, whose: str) -> None:
    """A stack's time belongs to the room that its leaf stands in."""
    assert room((frame,)) == whose
    assert whose in ROOMS


def test_kernel_is_the_kernels_in_any_call() -> None:
    """What was called says nothing of whose it is."""
    assert room(("kernel", "futex")) == "kernel"


def test_stack_begins_where_its_task_does() -> None:
    """What runs tasks is left out; it stays where it runs none."""
    loop = ("main (bridge/cli/group.py:97)", "run (trio/_core/_run.py:2424)")
    task = ("read (bridge/pusher/websocket.py:239)",)

    assert beyond_loops((*loop, *task)) == task
    assert beyond_loops(loop) == loop[1:]
    assert beyond_loops(task) == task


def test_clock_is_dealt_to_stacks() -> None:
    """The kernel and SQLite have what perf saw of them, functions share the rest."""
    by_leaf = {
        thread: {stack[-1].split(" (")[0]: us for stack, us in stacks.items()}
        for thread, stacks in MADE.stacks.items()
    }

    assert by_leaf["main"] == pytest.approx(
        {
            "recvfrom": 1.0,
            '<lambda> & "more"': 1.8,
            "Attempt._receive": 0.6,
            "unrolled_run": 0.6,
        }
    )
    assert by_leaf["outbox"] == pytest.approx(
        {"SQLite": 3.0, "pwrite": 2.0, "Appending.append": 5.0}
    )
    assert sum(map(sum, map(dict.values, MADE.stacks.values()))) == pytest.approx(20)


def test_py_spy_alone_deals_all() -> None:
    """Where there is no perf nothing is lost, and no library is named."""
    alone = replace(MADE, processor={})

    assert sum(alone.stacks["outbox"].values()) == pytest.approx(10)
    assert "library" not in markdown(alone)


def test_profile_that_was_kept_is_the_same() -> None:
    """What is read draws and tells what was measured."""
    assert Profile.read(MADE.json().encode()) == MADE


def test_tables_tell_rooms_functions_and_samples() -> None:
    """Each has its us an event and its share, and functions what they call beside."""
    report = markdown(MADE)
    rows = [re.sub(r"\s+", " ", line) for line in report.splitlines()]

    assert "| SQLite | 0.00 | 3.00 | 0.00 | 3.00 | 15.0% |" in rows
    assert "| libsqlite3 | 0.00 | 3.00 | 0.00 | 3.00 | 15.0% |" in rows
    assert "| all | 4.00 | 10.00 | 6.00 | 20.00 | 100.0% |" in rows
    assert (
        "| 0.6 | 3.0% | 2.4 | `Attempt._receive` | bridge/pusher/attempt.py | reader |"
    ) in rows
    assert "| decoding | 0.62 |" in rows
    assert "| reader | 4.00 | 5.00 | 25% | 85% | 100 | 9% | 100 |" in rows


def test_documents_show_the_largest_functions() -> None:
    """They have what the report has, in short, and say where it was measured."""
    text = for_documents(MADE)

    assert text.startswith("2 cores, load 0.5, CPython 3.11, revision abc, 2026-11-24.")
    assert "`Appending.append`" in text
    assert "#" not in text


def test_frame_is_as_wide_as_its_share() -> None:
    """Threads share the whole width, and what a frame calls stands within it."""
    widths = _widths(draw(MADE, "title"))

    whole = widths["all"]
    assert widths["reader"] == pytest.approx(whole * 4 / 20, abs=0.1)
    assert widths["outbox's thread"] == pytest.approx(whole * 10 / 20, abs=0.1)
    assert widths["Attempt._receive"] == pytest.approx(whole * 2.4 / 20, abs=0.1)
    assert widths["pwrite"] == pytest.approx(whole * 2 / 20, abs=0.1)


def test_frame_tells_function_file_and_share() -> None:
    """Names are what they are, whatever XML means by their letters."""
    titles = [title.text for title in _titles(draw(MADE, "a < b"))]

    assert titles[0] == "a < b"
    assert (
        '<lambda> & "more", bridge/job_status/conforming.py, 9.0%, 1.8 us an event'
    ) in titles


def test_narrow_frames_are_left_out() -> None:
    """One sample in a thousand can't be seen, and would make the file long."""
    assert (
        sum("<lambda>" in (title.text or "") for title in _titles(draw(MADE, ""))) == 1
    )


def test_same_profile_gives_the_same_graph() -> None:
    """In whichever order samples came."""
    turned = replace(
        MADE,
        locked={
            thread: dict(reversed(stacks.items()))
            for thread, stacks in reversed(MADE.locked.items())
        },
    )

    assert draw(turned, "title") == draw(MADE, "title")


def test_legend_names_what_can_be_seen() -> None:
    """A room that has no frame wide enough isn't looked for in vain."""
    svg = draw(MADE, "")

    assert ">bridge.kafka</text>" in svg
    assert ">aiokafka</text>" not in svg


def test_documents_place_is_renewed() -> None:
    """Only what stands between a profile's own comments is replaced."""
    document = "a\n<!-- flame -->\nold\n<!-- /flame -->\nb\n<!-- flame-1000 -->\n"

    assert renewed(document, "flame", r"new \1") == document.replace("old", r"new \1")
    assert renewed(document, "flame-100", "new") == document


def _titles(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{_SVG}title"))  # noqa: S314 - ours


def _widths(svg: str) -> dict[str, float]:
    """Give how wide a frame is, by its function."""
    widths = {}
    for group in ET.fromstring(svg).iter(f"{_SVG}g"):  # noqa: S314 - ours
        title, rect = group.find(f"{_SVG}title"), group.find(f"{_SVG}rect")
        assert title is not None
        assert title.text is not None
        assert rect is not None
        widths[title.text.partition(", ")[0]] = float(rect.attrib["width"])
    return widths
