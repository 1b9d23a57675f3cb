"""
A profile as a flame graph: an SVG that a browser and a Markdown page show alike.

Owns its geometry and colours. A frame is as wide as its part of the bridge's CPU and
stands on the one that called it; what is too narrow to be seen is left out, and leaves
a gap. The same profile gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from benchmarks.profiles import THREADS, Profile
from benchmarks.rooms import ROOMS, file_of, name_of, room


__all__ = ["draw"]

_WIDTH = 960.0
_MARGIN = 8.0
_ROW = 17
_HEAD = 62
_LEGEND_ROW = 20

# Of all: three pixels.
_LEAST_SHARE = 0.003

_NAMESPACE = "http://www.w3.org/2000/svg"

_NOTE = (
    "A frame is as wide as its part of the CPU, and stands on what called it."
    f" Narrower ones than {_LEAST_SHARE:.1%} are left out."
)

# A letter of the font at its size takes no more, mostly; and what isn't worth a label.
_LETTER = 6.8
_LEAST_LETTERS = 3
_PADDING = 3.0

# In the order of ROOMS: in light, in dark. Text has a contrast of 4.5 on each.
_COLOURS = (
    ("#9ecbff", "#1f4b7a"),
    ("#b4e5f9", "#155466"),
    ("#a8dfb4", "#1d5a34"),
    ("#ffd08a", "#70470d"),
    ("#d7dde3", "#3d4652"),
    ("#e6e6e6", "#33373d"),
    ("#f8b6a6", "#78301f"),
    ("#fbd9ce", "#5e3a30"),
    ("#d3c2f5", "#493577"),
    ("#e6dcfa", "#3c3157"),
    ("#dfe6b0", "#4d5420"),
    ("#8fd6c4", "#14574a"),
    ("#c5e8df", "#2a4d45"),
    ("#f4b8d6", "#6d2a4c"),
)

_STYLE = """\
    text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 12px; fill: #1f2328; }
    .head { font-size: 15px; font-weight: 600; }
    .note { fill: #59636e; }
    rect { stroke: #ffffff; stroke-width: 0.5; }
    .base { fill: #eff2f5; }"""  # noqa: E501

_DARK = """\
      text { fill: #f0f6fc; }
      .note { fill: #9198a1; }
      rect { stroke: #0d1117; }
      .base { fill: #262c36; }"""


@dataclass
class _Node:
    """A frame with those above it."""

    us: float = 0.0
    calls: dict[str, _Node] = field(default_factory=dict)

    def add(self, path: tuple[str, ...], us: float) -> None:
        """Let a stack take so long."""
        node = self
        node.us += us
        for frame in path:
            node = node.calls.setdefault(frame, _Node())
            node.us += us

    def depth(self, least: float) -> int:
        """Count the rows of what is wide enough."""
        above = [node.depth(least) for node in self.calls.values() if node.us >= least]
        return 1 + max(above, default=0)


@dataclass(frozen=True)
class _Scale:
    """How wide a microsecond is, and how few aren't drawn."""

    whole: float
    least: float

    def width(self, us: float) -> float:
        return us / self.whole * (_WIDTH - 2 * _MARGIN)


def draw(profile: Profile, title: str) -> str:
    """
    Draw a profile.

    Args:
        profile: It; something of it is known.
        title: What was measured, in one line.
    """
    root = _tree(profile)
    least = root.us * _LEAST_SHARE
    rows = root.depth(least)
    bottom = _HEAD + rows * _ROW
    legend, height = _legend(profile, bottom + _ROW)
    lines = [
        f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {_WIDTH:g} {height:g}" role="img"',
        '  aria-labelledby="title">',
        f'  <title id="title">{escape(title)}</title>',
        "  <style>",
        _STYLE,
        *(_fill(place, "    ", light) for place, (light, _) in enumerate(_COLOURS)),
        "    @media (prefers-color-scheme: dark) {",
        _DARK,
        *(_fill(place, "      ", dark) for place, (_, dark) in enumerate(_COLOURS)),
        "    }",
        "  </style>",
        f'  <text class="head" x="{_MARGIN:g}" y="22">{escape(title)}</text>',
        f'  <text class="note" x="{_MARGIN:g}" y="42">{_NOTE}</text>',
        *_frames(root, (), _MARGIN, bottom - _ROW, _Scale(root.us, least)),
        *legend,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _tree(profile: Profile) -> _Node:
    root = _Node()
    for thread, stacks in profile.stacks.items():
        for stack, us in stacks.items():
            root.add((THREADS[thread], *stack), us)
    return root


def _frames(
    node: _Node, path: tuple[str, ...], x: float, y: float, scale: _Scale
) -> Iterator[str]:
    """Draw a frame and those above it; a path is a thread's name and its frames."""
    yield _frame(node, path, x, y, scale)
    # Threads stand as everywhere, and of all others the largest comes first.
    calls = sorted(node.calls.items(), key=lambda item: (-item[1].us, item[0]))
    if not path:
        calls = [(name, node.calls[name]) for name in THREADS.values()]
    for frame, above in calls:
        if above.us >= scale.least:
            yield from _frames(above, (*path, frame), x, y - _ROW, scale)
        x += scale.width(above.us)


def _frame(
    node: _Node, path: tuple[str, ...], x: float, y: float, scale: _Scale
) -> str:
    width = scale.width(node.us)
    frame = path[-1] if path else "all"
    of_all = f"{node.us / scale.whole:.1%}, {node.us:.3g} us an event"
    told = ", ".join(part for part in (name_of(frame), file_of(frame), of_all) if part)
    colour = f"c{ROOMS.index(room(path[1:]))}" if path[1:] else "base"
    label = _label(name_of(frame), width)
    text = (
        f'<text x="{x + _PADDING:.1f}" y="{y + 12.5:g}">{escape(label)}</text>'
        if label
        else ""
    )
    return (
        f"  <g><title>{escape(told)}</title>"
        f'<rect class="{colour}" x="{x:.1f}" y="{y:g}" width="{width:.1f}"'
        f' height="{_ROW}" rx="2"/>{text}</g>'
    )


def _label(name: str, width: float) -> str:
    letters = int((width - 2 * _PADDING) / _LETTER)
    if letters < _LEAST_LETTERS:
        return ""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _legend(profile: Profile, y: float) -> tuple[list[str], float]:
    """Name the colours of what can be seen; gives lines, and where they end."""
    there: defaultdict[str, float] = defaultdict(float)
    for stacks in profile.stacks.values():
        for stack, us in stacks.items():
            there[room(stack)] += us
    lines, x = [], _MARGIN
    for place, name in enumerate(ROOMS):
        if there[name] < profile.us * _LEAST_SHARE:
            continue
        width = 12 + 6 + len(name) * _LETTER + 20
        if x + width > _WIDTH:
            x, y = _MARGIN, y + _LEGEND_ROW
        lines.append(
            f'  <rect class="c{place}" x="{x:.1f}" y="{y:g}" width="12" height="12"/>'
            f'<text x="{x + 18:.1f}" y="{y + 10.5:g}">{escape(name)}</text>'
        )
        x += width
    return lines, y + _LEGEND_ROW


def _fill(place: int, indent: str, colour: str) -> str:
    return f"{indent}.c{place} {{ fill: {colour}; }}"
