"""`bench`: every task, device and runtime, and outputs that are wrong."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FileFactory
from helpers.tiers import diagonal, first_of

from edgeae.benchmark import bench, cases, peers, pytorch
from edgeae.benchmark.cases import Case, Subject
from edgeae.benchmark.results import compare, read_earlier
from edgeae.config import ARCHS
from edgeae.errors import UsageError
from edgeae.network.weight_file import read
from edgeae.runtime import backends, devices

QUICK: dict[str, Any] = {"batches": (1,), "runs": 4, "max_secs": 5, "cold_start": False}


@pytest.fixture(autouse=True)
def no_idle_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.benchmark.turns.IDLE_S", 0.0)


@pytest.mark.parametrize("arch, task", diagonal(ARCHS, cases.TASKS))
def test_every_task(task: str, arch: str, tiny_file: FileFactory) -> None:
    found = bench([tiny_file(arch)], ["CPU"], tasks=[task], **QUICK)
    row, *library = found.rows
    assert [one.case.runtime for one in library] == ([cases.LIBRARY] if task in cases.EXPORTED_TASKS else [])
    assert not any(one.wrong for one in found.rows) and row.calls
    assert 0 < row.min_ms <= row.p50_ms <= row.p90_ms <= row.p99_ms
    images = cases.FRAMES if task == "frame" else 1
    assert row.images_per_s == pytest.approx(1e3 * images / row.p50_ms)
    if task == "train":
        assert row.largest_difference is None
    else:
        assert row.largest_difference is not None and row.largest_difference < 1e-4


@pytest.mark.parametrize("backend", first_of(["CPU", "CL", "WEBGPU"]))
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
    assert told == set(backends.NAMES)


@pytest.mark.parametrize("arch, task", diagonal(ARCHS, [*cases.EXPORTED_TASKS, "train"]))
def test_peers_run_the_same_network(
    task: str, arch: str, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr("torch.compile", lambda function, **options: function)  # takes half a minute
    monkeypatch.setattr(pytorch, "can_compile", lambda: True)
    found = bench([tiny_file(arch, "int8", context=1)], ["CPU"], tasks=[task], with_peers=True, **QUICK)
    exact = [row for row in found.rows if row.case.weights != peers.ROUNDED]
    onnx = {"ONNX Runtime"} if task != "train" else set()
    assert {"edgeae", "PyTorch", "torch.compile"} | onnx <= {row.case.runtime for row in exact}
    assert [row.wrong for row in exact] == [""] * len(exact)
    assert all((row.largest_difference or 0) < 1e-4 for row in exact)


@pytest.mark.parametrize(("package", "name"), [("torch", "PyTorch"), ("openvino", "OpenVINO")])
def test_a_peer_that_is_missing_is_named(package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda *names: package not in names)
    monkeypatch.setattr(pytorch, "can_compile", lambda: True)
    lines = peers.describe_missing()
    assert lines[0].startswith(f"{name} is left out") and all("edgeae[bench]" in line for line in lines)
    assert name not in peers.list_peers("reconstruct", "CPU")


def test_torch_compile_without_a_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda *names: True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    [line] = peers.describe_missing()
    assert "C++ compiler" in line and "torch.compile" not in peers.list_peers("train", "CPU")


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
    assert all(
        change.ratio == 1 and not change.moved for change in compare(before, read_earlier(tmp_path / "old.json"))
    )
    right = cases.prepare

    def slowed(subject: Subject, case: Case) -> cases.Prepared:
        prepared = right(subject, case)

        def run(i: int) -> Any:
            time.sleep(0.2)
            return prepared.run(i)

        return replace(prepared, run=run)

    monkeypatch.setattr(cases, "prepare", slowed)
    changes = compare(bench([path], ["CPU"], **QUICK), read_earlier(tmp_path / "old.json"))
    assert all(change.ratio > 5 and change.moved for change in changes) and len(changes) == 2


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
