"""
Shows a log record's rows as a table below its line, for people.

Rows are a value that is a list of mappings with the same keys: JSON has them as they
are. What stands in them belongs to whoever logs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from structlog.typing import EventDict, Processor, WrappedLogger


__all__ = ["with_tables"]

# A cell that is longer pushes the rest of its own line aside, and no other line's.
_WIDEST_CELL = 40

# What is a sentence stands below the table, named by its row.
_REMARK = "remedy"

_Row = Mapping[str, object]


def with_tables(renderer: Processor) -> Processor:
    """
    Have tables shown below what a renderer makes of the rest.

    Args:
        renderer: Makes the line.
    """

    def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
        tables = [key for key, value in event.items() if _is_table(value)]
        parts = [_table(event.pop(key)) for key in tables]
        return "\n".join([str(renderer(logger, name, event)), *parts])

    return render


def _is_table(value: object) -> TypeGuard[Sequence[_Row]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(row, Mapping) and row.keys() == value[0].keys() for row in value
        )
    )


def _table(rows: Sequence[_Row]) -> str:
    columns = [column for column in rows[0] if column != _REMARK]
    lines = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [
        min(max(len(line[number]) for line in lines), _WIDEST_CELL)
        for number in range(len(columns))
    ]
    shown = [
        "  "
        + "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    # The first two columns name a row.
    shown += [
        f"  {' '.join(str(row[column]) for column in columns[:2])}: {row[_REMARK]}"
        for row in rows
        if row.get(_REMARK)
    ]
    return "\n".join(shown)
