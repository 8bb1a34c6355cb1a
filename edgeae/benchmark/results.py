"""The figures of a benchmark: as a table, JSON and CSV, and compared with an earlier one."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.benchmark.cases import Case
from edgeae.benchmark.cold import ColdStart
from edgeae.benchmark.turns import Timing
from edgeae.errors import UsageError
from edgeae.formatting import json_ready, table
from edgeae.untrusted import open_regular, parse_json

SCHEMA = 1
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Row:
    """The figures of one case.

    Attributes:
        case: what was timed.
        min_ms, p50_ms, p90_ms, p99_ms: minimum and percentiles of the warm calls.
        spread: largest distance of a turn's median from `p50_ms`, as a share of it.
        images_per_s: at the median.
        calls: timed calls.
        largest_difference: from the outputs of the CPU in float32 with the same (rounded) weights, images in [0, 1];
            None for losses.
        psnr_db: to the images of the model's own weights in float32 on the CPU; infinite where equal, None for codes
            and losses.
        artifact_bytes: size of the file that the runtime loads.
        peak_bytes: most resident memory of a fresh process.
        cold, cached: the first image of a fresh process, without and with compiled kernels.
        throttled: whether the processor was slowed down in one of its turns; None where the system does not tell.
        wrong: why there are no figures; empty where there are.
    """

    case: Case
    min_ms: float = math.nan
    p50_ms: float = math.nan
    p90_ms: float = math.nan
    p99_ms: float = math.nan
    spread: float = math.nan
    images_per_s: float = math.nan
    calls: int = 0
    largest_difference: float | None = None
    psnr_db: float | None = None
    artifact_bytes: int = 0
    peak_bytes: int | None = None
    cold: ColdStart | None = None
    cached: ColdStart | None = None
    throttled: bool | None = None
    wrong: str = ""

    @classmethod
    def of(cls, case: Case, timing: Timing, images: int, **others: Any) -> Row:
        """Make a row of a case's times; `others` are further attributes."""
        if timing.wrong:
            return cls(case, wrong=timing.wrong, artifact_bytes=others.get("artifact_bytes", 0))
        seconds = timing.seconds
        low, middle, high, highest = (1e3 * float(value) for value in np.percentile(seconds, [0, 50, 90, 99]))
        return cls(case, low, middle, high, highest, timing.spread, 1e3 * images / middle, len(seconds), **others)


@dataclass(frozen=True)
class Results:
    """The figures of all cases.

    Attributes:
        machine: see `machine.describe_machine`, and `strain`.
        rows: of all cases.
        left_out: a sentence for each device, peer or case that could not be measured.
        warnings: what disturbed the measurement.
    """

    machine: dict[str, Any]
    rows: list[Row]
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    # ---- files -----------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document that docs/benchmark.md describes; a figure that is missing or infinite is None."""
        rows = []
        for row in self.rows:
            values = asdict(row)
            rows.append({"name": row.case.name} | values.pop("case") | values)
        document: dict[str, Any] = json_ready(
            {
                "schema": SCHEMA,
                "machine": self.machine,
                "rows": rows,
                "left_out": self.left_out,
                "warnings": self.warnings,
            }
        )
        return document

    def csv(self) -> str:
        """Return the rows as CSV, the fields of the cold starts as `cold_first_image` and so on."""
        text = io.StringIO()
        lines = [_flat(row) for row in self.as_dict()["rows"]]
        writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)))
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    # ---- text ------------------------------------------------------------------------------------------------------

    def table(self) -> list[str]:
        """Return the lines of a table, at most 100 columns wide."""
        lines: list[str] = []
        for title, rows in groupby(self.rows, key=_title):
            group = list(rows)
            cells = [_cells(row) for row in group]
            header = ["runtime", "weights", "min", "p50", "p90", "p99 ms", "±", "images/s", "parity", "PSNR"]
            lines += ["", title, *table(header, cells, right=range(2, 10))]
            lines += [f"  {row.case.runtime} {row.case.device}: {row.wrong}" for row in group if row.wrong]
        for model, rows in groupby((row for row in self.rows if row.cold), key=lambda row: row.case.model):
            header = [
                "runtime",
                "weights",
                "import",
                "load",
                "compile",
                "all s",
                "cached: compile",
                "all s",
                "MiB",
                "file MB",
            ]
            lines += [
                "",
                f"{model}: the first image of a fresh process; cached: kernels found compiled",
                *table(header, [_cold_cells(row) for row in rows], right=range(2, 10)),
            ]
        return lines


def runtime(case: Case) -> str:
    """Return the runtime and device of a case as the table names them."""
    return case.runtime if case.runtime != "edgeae" and case.device == "CPU" else f"{case.runtime} {case.device}"


def _title(row: Row) -> str:
    case = row.case
    paced = ", at a camera's rhythm with cold caches" if case.paced else ""
    images = "1 image" if case.batch == 1 else f"{case.batch} images"
    threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
    return f"{case.model}: {case.task}, {images} of {case.width}×{case.height}, {threads}{paced}"


def _cells(row: Row) -> list[str]:
    case = row.case
    name = runtime(case)
    if row.wrong:
        return [name, case.weights, "WRONG", *[""] * 7]
    psnr = "" if row.psnr_db is None else "equal" if math.isinf(row.psnr_db) else f"{row.psnr_db:.1f}"
    mark = "*" if row.throttled else ""
    return [
        name,
        case.weights,
        *(f"{value:.2f}" for value in (row.min_ms, row.p50_ms, row.p90_ms, row.p99_ms)),
        f"{row.spread:.0%}{mark}",
        f"{row.images_per_s:,.0f}",
        "" if row.largest_difference is None else f"{row.largest_difference:.0e}",
        psnr,
    ]


def _cold_cells(row: Row) -> list[str]:
    assert row.cold and row.cached and row.peak_bytes
    empty, full = row.cold, row.cached
    seconds = (empty.imports, empty.load, empty.compile, empty.first_image, full.compile, full.first_image)
    return [
        runtime(row.case),
        row.case.weights,
        *(f"{second:.2f}" for second in seconds),
        f"{row.peak_bytes / 2**20:.0f}",
        f"{row.artifact_bytes / 1e6:.2f}",
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}_{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
    return flat


# ---- compared with an earlier one ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """The change of a case since an earlier benchmark.

    Attributes:
        name: of the case.
        ratio: p50 now divided by p50 then.
        allowed: the largest distance from 1 that the spreads of both explain.
    """

    name: str
    ratio: float
    allowed: float

    @property
    def moved(self) -> bool:
        return not 1 / (1 + self.allowed) <= self.ratio <= 1 + self.allowed


def read_earlier(path: Path) -> dict[str, tuple[float, float]]:
    """Read an earlier bench.json.

    Returns:
        Median in ms and spread of each case, by its name.

    Raises:
        UsageError: the file cannot be read, or is no such file.
    """
    with open_regular(path, _MOST_BYTES, "bench.json", UsageError) as file:
        text = file.read()
    try:
        document = parse_json(text)
        if document["schema"] != SCHEMA:
            raise UsageError(f"{path}: schema {str(document['schema'])[:20]!r} is not {SCHEMA}.")
        return {row["name"]: (float(row["p50_ms"]), float(row["spread"])) for row in document["rows"] if row["p50_ms"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} is not the JSON of a benchmark of ours.") from None


def compare(now: Results, earlier: Mapping[str, tuple[float, float]]) -> list[Change]:
    """Return the change of each case that an earlier benchmark has too, see `read_earlier`."""
    changes = []
    for row in now.rows:
        if row.case.name in earlier and not row.wrong:
            p50_ms, spread = earlier[row.case.name]
            changes.append(Change(row.case.name, row.p50_ms / p50_ms, (1 + row.spread) * (1 + spread) - 1))
    return changes


def comparison(changes: Sequence[Change]) -> list[str]:
    """Return the lines of a table of changes, with a mark at those beyond the spread."""
    rows = [
        [
            change.name,
            f"{change.ratio:.2f}",
            f"±{change.allowed:.0%}",
            ("slower" if change.ratio > 1 else "faster") if change.moved else "",
        ]
        for change in changes
    ]
    return table(["now ÷ then", "ratio", "spread", ""], rows, right=(1, 2))
