"""Format tables and durations for a terminal."""

import math
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table.

    Args:
        header: titles of the columns.
        rows: cells of each row, as many as the header has.
        right: numbers of the columns to align to the right; the others are aligned to the left.
    """
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return [line(row) for row in cells]


def duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds: `1:15` for 75; `-` if it is not finite."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
