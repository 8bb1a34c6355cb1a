"""Results as text: tables, durations and decibels for a terminal, values for JSON."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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


def decibels(value: float | None) -> str:
    """Return a PSNR as text, `-` if there is none."""
    return "-" if value is None else f"{value:.1f}"


def json_ready(value: Any) -> Any:
    """Return a value as JSON types: dataclasses become objects, paths strings, and NaN and infinity null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_ready(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def plain_text(text: str) -> str:
    """Return a text without the characters that a terminal takes as commands, and without half of a surrogate pair.

    They become spaces, so that other programs, too, can print what a weight file says of itself.
    """
    return "".join(c if c.isprintable() else " " for c in text)


def join_names(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
