"""`edgeae bench` and `edgeae profile`."""

import json
from pathlib import Path

import pytest
from helpers import error, run
from PIL import Image

pytestmark = pytest.mark.usefixtures("working_folder", "shelf")

QUICK = ["-m", "int8", "-d", "CPU", "--batch", "1", "--runs", "4", "--max-secs", "3", "--no-cold"]


def test_bench_prints_and_writes() -> None:
    result = run("bench", *QUICK, "-o", "found", "--threads", "1")
    assert "edgeae CPU" in result.stdout and "parity" in result.stdout and "1 thread" in result.stdout
    assert max(map(len, result.stdout.splitlines()[3:])) <= 100
    document = json.loads(Path("found/bench.json").read_text())
    assert document["rows"][0]["model"] == "int8" and document["machine"]["threads"] == 1
    assert "p50_ms" in Path("found/bench.csv").read_text().splitlines()[0]
    Image.open("found/bench.png").verify()


def test_bench_as_json_beside_an_earlier_one() -> None:
    first = json.loads(run("bench", *QUICK, "--json").stdout)
    Path("old.json").write_text(json.dumps(first))
    second = json.loads(run("bench", *QUICK, "--json", "--against", "old.json").stdout)
    assert [change["name"] for change in second["against"]] == [row["name"] for row in first["rows"]]
    assert all(change["ratio"] > 0 for change in second["against"])
    assert "now ÷ then" in run("bench", *QUICK, "--against", "old.json").stdout


def test_limits() -> None:
    assert "ms, more than 0.0001" in error(run("bench", *QUICK, "--max-ms", "0.0001", code=4))
    assert "less than 1e+09" in error(run("bench", *QUICK, "--min-ips", "1e9", code=4))
    run("bench", *QUICK, "--max-ms", "1e6", "--min-ips", "0.001")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--batch 1,0", "0 is not in the range"),
        ("--batch one", "not a valid integer"),
        ("--size 64", "no size such as 640x480"),
        ("--size 4x9999", "no size such as 640x480"),
        ("--task dream", "is not one of"),
        ("--quantize int2", "is not one of"),
        ("--against missing.json", "missing.json: no such bench.json"),
        ("-d NOWHERE", "NOWHERE"),
        ("-o ./some.file", "is no folder"),
    ],
)
def test_usage(line: str, message: str) -> None:
    Path("some.file").write_text("")
    result = run("bench", "-m", "int8", *line.split(), code=2)
    assert message in result.stderr and "Traceback" not in result.stderr


def test_profile() -> None:
    result = run("profile", "int8", "-d", "CPU")
    assert "down.0" in result.stdout and "of peak" in result.stdout and "as one graph" in result.stdout
    document = json.loads(run("profile", "int8", "-d", "CPU", "--batch", "2", "--json").stdout)
    assert document["batch"] == 2 and document["layers"][0]["kind"] == "4×4 down"
