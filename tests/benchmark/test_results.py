"""Tables, pictures and files of a benchmark."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeae.benchmark import results
from edgeae.benchmark.cases import Case
from edgeae.benchmark.cold import ColdStart
from edgeae.benchmark.picture import picture
from edgeae.benchmark.results import Results, Row, read_earlier
from edgeae.benchmark.turns import Timing
from edgeae.errors import UsageError


def rows(count: int = 4) -> list[Row]:
    found = []
    for i in range(count):
        case = Case(
            "edgeae" if i % 2 else "ONNX Runtime",
            "CPU",
            "faces-residual-of-somebody",
            "int8",
            "reconstruct",
            1 + 31 * (i // 2),
            128,
            128,
            2,
        )
        timing = Timing(turns=[[0.001 * (i + 1), 0.002 * (i + 1)], [0.0011 * (i + 1)]])
        found.append(Row.of(case, timing, case.batch, largest_difference=1e-6, psnr_db=51.2, artifact_bytes=1_000_000))
    return found


def test_tables_fit() -> None:
    start = ColdStart(0.5, 0.25, 1.5, 2.5, 200 << 20)
    made = [replace(row, cold=start, cached=start, peak_bytes=start.peak_bytes) for row in rows()]
    made.append(replace(made[0], wrong="off by 1.0e+00; 3.9e-03 is allowed"))
    lines = Results({}, made).table()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "WRONG" in text and "51.2" in text and "200" in text and "±" in text


def test_json_and_csv() -> None:
    document = Results({"processor": "x"}, rows(), ["CL is left out: none"]).as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == results.SCHEMA and len({row["name"] for row in document["rows"]}) == 4
    [first, *_] = csv.DictReader(io.StringIO(Results({}, rows()).csv()))
    assert float(first["p50_ms"]) == document["rows"][0]["p50_ms"] and first["runtime"] == "ONNX Runtime"


def test_a_row_without_figures_is_null() -> None:
    wrong = Row(rows()[0].case, wrong="another picture")
    document = Results({}, [wrong]).as_dict()
    assert document["rows"][0]["p50_ms"] is None and document["rows"][0]["wrong"]


def test_the_picture() -> None:
    image = picture(rows())
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.shape[0] > 150 and 500 < image.shape[1] < 1400
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert picture([]).shape[2] == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "rows": [{}]}', '{"schema": 2, "rows": []}'])
def test_no_benchmark_to_compare_with(text: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(UsageError, match=r"old\.json"):
        read_earlier(tmp_path / "old.json")
