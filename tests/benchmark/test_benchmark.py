"""`edgeae bench` and `edgeae profile`: what they find, and that they find what is wrong."""

import csv
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FileFactory

from edgeae.benchmark import bench, cases, cold, machine, peers, results
from edgeae.benchmark.cases import Case, Subject
from edgeae.benchmark.machine import Strain, Watch
from edgeae.benchmark.picture import picture
from edgeae.benchmark.profile import profile
from edgeae.benchmark.results import Results, Row, compare
from edgeae.benchmark.turns import Engine, Timing, Turns, WrongOutput
from edgeae.errors import UsageError
from edgeae.network.weight_file import read
from edgeae.runtime import devices

QUICK: dict[str, Any] = {"batches": (1,), "runs": 4, "max_secs": 5, "cold_start": False}


@pytest.fixture(autouse=True)
def no_idle_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.benchmark.turns.IDLE_S", 0.0)


# ---- turns ---------------------------------------------------------------------------------------------------------


def engine(name: str, seconds: float = 0.0, output: float = 1.0, **others: Any) -> Engine:
    def call(count: int) -> float:
        time.sleep(seconds)
        return output

    def check(count: int, found: float) -> None:
        if found != 1.0:
            raise WrongOutput(f"{found}, not 1")

    return Engine(name, call, check, **others)


def test_engines_take_turns() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    engines = [Engine(name, lambda i, name=name: order.append(name), lambda i, output: None, calls=1) for name in names]
    turns = Turns(engines)
    assert turns.run(3) == 3
    assert order == [name for name in "abcbcacab" for _ in range(2)]  # each is called once before it is timed
    assert {len(timing.turns) for timing in turns.timings.values()} == {3}


def test_a_wrong_output_has_no_time() -> None:
    turns = Turns([engine("right", calls=2), engine("wrong", output=2.0, calls=2)])
    turns.warm_up()
    turns.run(2)
    assert turns.timings["wrong"].wrong == "2.0, not 1" and not turns.timings["wrong"].turns
    assert len(turns.timings["right"].seconds) == 4


def test_time_is_kept_to() -> None:
    turns = Turns([engine("slow", 0.02, calls=1)])
    assert turns.run(100, until=time.perf_counter() + 0.05) < 5


def test_a_pace() -> None:
    turns = Turns([engine("a", calls=4)], 0.0, 50.0, 1 << 16)
    started = time.perf_counter()
    turns.run(1)
    assert 0.08 <= time.perf_counter() - started < 2
    assert max(turns.timings["a"].seconds) < 0.02


def test_a_slowed_processor_marks_the_turn() -> None:
    turns = Turns([engine("a", calls=1), engine("b", calls=1)], is_throttled=iter([False, True]).__next__)
    turns.run(1)
    assert [timing.throttled for timing in turns.timings.values()] == [False, True]


def test_spread() -> None:
    timing = Timing(turns=[[1.0, 1.0], [1.0, 1.0], [1.5, 1.5]])
    assert timing.seconds == [1.0, 1.0, 1.0, 1.0, 1.5, 1.5] and timing.spread == pytest.approx(0.5)


# ---- what is found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", cases.TASKS)
def test_every_task(task: str, arch: str, tiny_file: FileFactory) -> None:
    found = bench([tiny_file(arch)], ["CPU"], tasks=[task], **QUICK)
    row, *library = found.rows
    assert [one.case.runtime for one in library] == ([cases.LIBRARY] if task in cases.HELD else [])
    assert not any(one.wrong for one in found.rows) and row.calls
    assert 0 < row.min_ms <= row.p50_ms <= row.p90_ms <= row.p99_ms
    images = cases.STEPS if task == "frame" else 1
    assert row.images_per_s == pytest.approx(1e3 * images / row.p50_ms)
    if task == "train":
        assert row.largest_difference is None
    else:
        assert row.largest_difference is not None and row.largest_difference < 1e-4


@pytest.mark.parametrize("backend", ["CPU", "CL", "WEBGPU"])
def test_every_device_gives_what_the_cpu_gives(backend: str, tiny_file: FileFactory) -> None:
    status = devices.probe(backend)
    if not status.usable:
        pytest.skip(f"{backend} is not usable: {status.reason}")
    found = bench([tiny_file("residual", "int8")], [backend], quantize=["int8", "none"], **QUICK)
    assert [row.case.weights for row in found.rows if row.case.runtime == "edgeae"] == ["int8", "float32"]
    assert all(not row.wrong and (row.largest_difference or 0) <= 1 / 255 for row in found.rows)


def test_all_devices_are_tried_or_named(tiny_file: FileFactory) -> None:
    found = bench([tiny_file("conv")], ["all"], **QUICK)
    told = {row.case.device for row in found.rows} | {line.split()[0] for line in found.left_out}
    assert told == set(devices.NAMES)


@pytest.mark.parametrize("task", cases.HELD)
def test_peers_run_the_same_network(task: str, arch: str, tiny_file: FileFactory) -> None:
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    found = bench([tiny_file(arch, "int8", context=1)], ["CPU"], tasks=[task], with_peers=True, **QUICK)
    exact = [row for row in found.rows if row.case.weights != peers.ROUNDED]
    assert {"edgeae", "ONNX Runtime", "PyTorch"} <= {row.case.runtime for row in exact}
    assert [row.wrong for row in exact] == [""] * len(exact)
    assert all((row.largest_difference or 0) < 1e-4 for row in exact)


def test_a_peer_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda *names: "torch" not in names)
    [line] = peers.missing()
    assert line.startswith("PyTorch is left out") and "edgeae[bench]" in line


def test_a_backend_that_gives_a_wrong_image_is_caught(tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    right = cases.prepare

    def wrong(subject: Subject, case: Case) -> cases.Prepared:
        prepared = right(subject, case)
        return replace(prepared, run=lambda i: 1 - prepared.run(i)) if case.batch == 2 else prepared

    monkeypatch.setattr(cases, "prepare", wrong)
    found = bench([tiny_file("conv")], ["CPU"], **QUICK | {"batches": (1, 2)}).rows
    good, bad = (row for row in found if row.case.runtime == "edgeae")
    assert not good.wrong and good.calls
    assert bad.wrong.startswith("off by") and not bad.calls and np.isnan(bad.p50_ms)


def test_a_backend_that_was_slowed_is_caught(
    tiny_file: FileFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_file("conv")
    before = bench([path], ["CPU"], **QUICK)
    (tmp_path / "old.json").write_text(json.dumps(before.as_dict()))
    assert all(change.ratio == 1 and not change.moved for change in compare(before, tmp_path / "old.json"))
    right = cases.prepare

    def slowed(subject: Subject, case: Case) -> cases.Prepared:
        prepared = right(subject, case)

        def run(i: int) -> Any:
            time.sleep(0.2)
            return prepared.run(i)

        return replace(prepared, run=run)

    monkeypatch.setattr(cases, "prepare", slowed)
    changes = compare(bench([path], ["CPU"], **QUICK), tmp_path / "old.json")
    assert all(change.ratio > 5 and change.moved for change in changes) and len(changes) == 2


# ---- how it is told ------------------------------------------------------------------------------------------------


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
    start = cold.ColdStart(0.5, 0.25, 1.5, 2.5, 200 << 20)
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
        compare(Results({}, rows()), tmp_path / "old.json")


# ---- the machine ---------------------------------------------------------------------------------------------------


def test_the_machine_is_told(device: str) -> None:
    found = machine.this_machine(2)
    assert found["processor"] and found["versions"]["tinygrad"] and found["commit"]
    assert max(map(len, machine.headline(found))) <= 100


def test_strain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Raspberry Pi that gets hot."""
    monkeypatch.setattr(machine, "_SYSTEM", tmp_path)
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    zone = tmp_path / "class/thermal/thermal_zone0/temp"
    energy = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    for path, text in ((flags, "0"), (zone, "61200"), (energy, "1000000")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    watch = Watch()
    strain = watch.strain()
    assert (strain.hottest_c, strain.throttled, strain.joules) == (61.2, False, 0.0)
    flags.write_text("40004")
    energy.write_text("3500000")
    strain = watch.strain()
    assert strain.throttled and strain.joules == 2.5 and any("heat" in line for line in strain.warnings)


def test_a_loaded_machine_is_told() -> None:
    assert "0.50 cores" in Strain(cores_taken=0.5).warnings[0] and not Strain(cores_taken=0.05).warnings


# ---- fresh processes -----------------------------------------------------------------------------------------------


def test_the_first_image_of_a_fresh_process(tiny_file: FileFactory) -> None:
    empty, full = cold.measure(tiny_file("conv"), "edgeae", "CPU", 16, 16, 1)
    for start in (empty, full):
        assert 0 < start.imports < start.first_image and start.load > 0
        assert 20e6 < start.peak_bytes < 4e9
    assert empty.compile > full.compile


def test_a_process_that_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(cold.ColdStartError, match="safetensors"):
        cold.measure(tmp_path / "broken.safetensors", "edgeae", "CPU", 16, 16, 1)


# ---- layer by layer ------------------------------------------------------------------------------------------------


def test_profile(arch: str, device: str, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.benchmark.profile.ROUNDS", 2)
    path = tiny_file(arch, context=1)
    found = profile(path, device, batch=2)
    names = [layer.name for layer in found.layers]
    assert names[0] == "down.0" and names[-1] == "to_image" and "to_logvar" not in names
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert all(layer.ms > 0 and layer.flop > 0 and layer.bytes > 0 for layer in found.layers)
    assert found.ms > 0 and found.peak_gflops > 0.1
    with pytest.raises(UsageError, match=r"multiples|takes images"):
        profile(path, device, size=(17, 16))


def test_what_cannot_be_timed(tiny_file: FileFactory) -> None:
    for changes, message in (
        ({"tasks": ["dream"]}, "unknown task"),
        ({"batches": [0]}, "more than 0"),
        ({"quantize": ["int2"]}, "unknown quantization"),
    ):
        with pytest.raises(UsageError, match=message):
            bench([tiny_file("conv")], ["CPU"], **changes)
    with pytest.raises(UsageError, match="is a vae"):
        bench([tiny_file("vae")], ["CPU"], size=(64, 64))
    assert Subject(read(tiny_file("conv", "int8")), "none", None).scheme == "float32"
