"""
Draws what was measured of growth: docs/growth-*.svg, one for each axis.

Owns what a picture shows, and its colours on light and on dark ground. matplotlib
draws; its file is then made to look as the docs' other pictures: the reader's own
font, colours from a style sheet that knows the dark, a title and a description. It
stands in a dependency group of its own: `make plots` installs it.

    python -m benchmarks.growth.plots
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks.contenders import ROOT
from benchmarks.figures import Spread
from benchmarks.growth.axes import AXES, FLAT, Axis, medians, spreads
from benchmarks.growth.figures import COMMITTED, Growth, load
from benchmarks.growth.report import fit_of, verdicts


__all__ = ["describe", "draw", "file_of", "main"]

# Colours on light and on dark ground, GitHub's own: for words and lines, for what is
# less, and for the lines of the figures.
_COLOURS = {
    "ink": ("#1f2328", "#f0f6fc"),
    "note": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "first": ("#0969da", "#4493f8"),
    "second": ("#bc4c00", "#db6d28"),
}
_FONT = 'system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif'

# Costs that the scale names: those of these digits.
_DIGITS = (1, 2, 5)

_STYLE = re.compile(r'style="([^"]*)"')
_PARTS = ("fill", "stroke")
_NAMES = {light: name for name, (light, _) in _COLOURS.items()}

# Of a line that is worked out.
_STEPS = 60

# What stands below it, its words, and its figures by size.
_Line = tuple[str, str, Mapping[float, Spread]]


def file_of(axis: str) -> Path:
    """Give where an axis' picture stands."""
    return ROOT / "docs" / f"growth-{axis}.svg"


def describe(axis: Axis, growth: Growth) -> str:
    """Say in words what an axis' picture shows: for who can't see it, and for tests."""
    parts = []
    for name, words, figures in _lines(axis, growth):
        told = ", ".join(
            f"{one.median:,.1f} at {size:,.0f}" for size, one in figures.items()
        )
        parts.append(f"CPU microseconds {words}, by {name}: {told}.")
    said = [f"{verdict}." for verdict in verdicts(axis, growth.points)]
    return " ".join([*parts, *said])


def _lines(axis: Axis, growth: Growth) -> list[_Line]:
    """Give the lines of a picture: what stands below, its words, its figures."""
    points = growth.points
    if axis.name == "payload":
        sizes = medians(points, "payload", "event_bytes")
        costs = spreads(points, "payload", "flood_us")
        by_size = {sizes[value]: cost for value, cost in costs.items()}
        return [("bytes an event", "of a flood", by_size)]
    return [
        (axis.unit, words, {float(value): one for value, one in costs.items()})
        for name, words in axis.costs.items()
        if (costs := spreads(points, axis.name, name))
    ]


def draw(axis: Axis, growth: Growth) -> str:
    """Draw an axis; the same figures give the same text with the same matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - only here, and not always installed
    from matplotlib.figure import Figure  # noqa: PLC0415

    ink, note = _COLOURS["ink"][0], _COLOURS["note"][0]
    grid = _COLOURS["grid"][0]
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": axis.name,
        "font.size": 13,
        "text.color": ink,
        "axes.labelcolor": note,
        "axes.edgecolor": grid,
        "xtick.color": grid,
        "ytick.color": grid,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9.6, 3.6), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        figure.patch.set_visible(False)
        axes.set_xscale("log")
        axes.set_yscale("log")
        lines = _lines(axis, growth)
        for (_, words, figures), colour in zip(
            lines, (_COLOURS["first"][0], _COLOURS["second"][0]), strict=False
        ):
            _line(axes, figures, words, colour)
        sizes = sorted({size for _, _, figures in lines for size in figures})
        if axis.name == "payload":
            _fitted(axes, growth, sizes)
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.minorticks_off()
        _name_costs(axes, lines)
        axes.grid(visible=True, axis="y", color=grid, linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(lines[0][0])
        axes.set_ylabel("CPU us an event")
        axes.legend(frameon=False, loc="best")
        file = StringIO()
        bare = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=bare)
    by = f"matplotlib {mpl.__version__}"
    return _dressed(file.getvalue(), axis.title, describe(axis, growth), by)


def _line(axes: Any, figures: Mapping[float, Spread], words: str, colour: str) -> None:
    axes.errorbar(
        list(figures),
        [one.median for one in figures.values()],
        yerr=[
            [one.median - one.lowest for one in figures.values()],
            [one.highest - one.median for one in figures.values()],
        ],
        color=colour,
        marker="o",
        capsize=4,
        linewidth=2,
        label=words,
    )


def _fitted(axes: Any, growth: Growth, sizes: Sequence[float]) -> None:
    """Draw what an event's size explains, as a line without points."""
    line = fit_of(growth.points)
    first, last = min(sizes), max(sizes)
    steps = [first * (last / first) ** (step / _STEPS) for step in range(_STEPS + 1)]
    axes.plot(
        steps,
        [line.at(size) for size in steps],
        color=_COLOURS["second"][0],
        linestyle="--",
        linewidth=1.5,
        label=f"{line.each:,.1f} us and {line.kilobyte:,.2f} us a KB",
    )


def _name_costs(axes: Any, lines: Sequence[_Line]) -> None:
    """Let the scale of costs reach over all figures and more, and name round ones."""
    costs = [
        cost
        for _, _, figures in lines
        for one in figures.values()
        for cost in (one.lowest, one.highest)
    ]
    named = [digit * 10**power for power in range(-1, 7) for digit in _DIGITS]
    # So that what is flat looks flat.
    lowest = max(cost for cost in named if cost <= min(costs) / FLAT)
    highest = min(cost for cost in named if cost >= max(costs) * FLAT)
    ticks = [cost for cost in named if lowest <= cost <= highest]
    axes.set_ylim(lowest / 1.1, highest * 1.1)
    axes.set_yticks(ticks, [f"{cost:,g}" for cost in ticks])


def _dressed(svg: str, title: str, description: str, by: str) -> str:
    """Make matplotlib's file look like the docs' other pictures."""
    (view,) = re.findall(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = _STYLE.sub(_styled, body)
    classes = [
        f".{name}-{part} {{ {part}: {{}}; }}" for name in _COLOURS for part in _PARTS
    ]
    light, dark = (
        "\n".join(
            f"{indent}{one.replace('{}', _COLOURS[one[1:].split('-')[0]][ground])}"
            for one in classes
        )
        for ground, indent in ((0, "    "), (1, "      "))
    )
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f' xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{view}" role="img"'
        ' aria-labelledby="title description">'
    )
    return "\n".join(
        [
            head,
            f"  <!-- Drawn by `make plots` with {by}. -->",
            f'  <title id="title">{escape(title)}</title>',
            f'  <desc id="description">{escape(description)}</desc>',
            "  <style>",
            f"    text {{ font-family: {_FONT}; }}",
            light,
            "    @media (prefers-color-scheme: dark) {",
            dark,
            "    }",
            "  </style>",
            body.strip(),
            "</svg>",
            "",
        ]
    )


def _styled(match: re.Match[str]) -> str:
    """Turn a style's colours into classes, and leave its font to the style sheet."""
    classes, rest = [], []
    for part in filter(None, map(str.strip, match[1].split(";"))):
        name, _, value = part.partition(": ")
        colour = _NAMES.get(value)
        if colour is not None and name in _PARTS:
            classes.append(f"{colour}-{name}")
        elif name != "font-family":
            rest.append(part)
    written = [f'style="{"; ".join(rest)}"'] if rest else []
    return " ".join([*([f'class="{" ".join(classes)}"'] if classes else []), *written])


def main() -> int:
    """Draw every axis of which there are figures."""
    growth = load(COMMITTED)
    for axis in AXES.values():
        if any(point.axis == axis.name for point in growth.points):
            file = file_of(axis.name)
            file.write_text(draw(axis, growth), newline="\n")
            sys.stdout.write(f"{file.relative_to(ROOT)} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
