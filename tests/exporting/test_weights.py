"""Exported weight files: the report is checked against the files themselves."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from helpers.tiers import diagonal
from safetensors import safe_open
from safetensors.numpy import load_file

from edgeae.config import ARCHS, ModelConfig, TrainConfig
from edgeae.data.datasets import open_dataset
from edgeae.errors import DataError, TrainingError, UsageError, WeightsError
from edgeae.exporting.weights import export
from edgeae.inference import golden
from edgeae.inference.load import load
from edgeae.network import quantize
from edgeae.training.evaluation import Trial
from edgeae.training.loop import train

BITS = {"none": 32, "fp16": 16, "int8": 8, "int4": 4}


@pytest.fixture
def image_file(tmp_path: Path) -> str:
    """One image to score on: the network then runs at the same batch size as for the golden input."""
    path = tmp_path / "image.npz"
    np.savez(path, images=photo(16, 16)[None])
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, device: str) -> Path:
    """A run folder: two epochs on 16 of 20 pictures, 2 of them for validation."""
    folder = tmp_path_factory.mktemp("exporting")
    np.savez(folder / "photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(20)]))
    model = ModelConfig.default("conv", size=16, widths=(4,), code=4)
    settings = TrainConfig(str(folder / "photos.npz"), epochs=2, batch=8, seed=3, limit=16, lr=0.01, licence="CC0-1.0")
    return train(model, settings, folder / "run", device=device).run


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "numpy") as file:
        return dict(file.metadata())


def values(stored: dict[str, np.ndarray], name: str, shape: tuple[int, ...], scheme: str) -> np.ndarray:
    """A weight in float32, as quantize.py's docstring lays it out."""
    tensor = stored[name]
    if f"{name}.scale" not in stored:
        return tensor.astype(np.float32)
    scale = stored[f"{name}.scale"].astype(np.float32)
    if scheme == "int8":
        return tensor * scale
    matrix = np.empty((2 * len(tensor), shape[-1]), np.float32)
    matrix[0::2], matrix[1::2] = tensor % 16, tensor // 16
    rows = math.prod(shape[:-1])
    return ((matrix[:rows] - 8) * scale[np.arange(rows) // 32]).reshape(shape)


@pytest.mark.parametrize("arch, scheme", diagonal(ARCHS, quantize.SCHEMES))
def test_the_report_is_true(
    scheme: str, arch: str, tiny_file: Callable[..., Path], image_file: str, device: str, tmp_path: Path
) -> None:
    source = tiny_file(arch)
    output = tmp_path / "new folder" / "out.safetensors"
    report = export(source, output, scheme=scheme, data=image_file, device=device)
    before, after = load_file(source), load_file(output)
    assert (report.path, report.quantize, report.images) == (str(output), scheme, 1)
    assert report.size_bytes == output.stat().st_size
    assert report.fp32_bytes == sum(tensor.size for tensor in before.values()) * 4

    assert {tensor.name for tensor in report.tensors} == set(before)
    for tensor in report.tensors:
        weight = before[tensor.name]
        stored = [value for name, value in after.items() if name in (tensor.name, f"{tensor.name}.scale")]
        assert (tensor.shape, tensor.fp32_bytes) == (weight.shape, weight.size * 4)
        assert tensor.size_bytes == sum(value.nbytes for value in stored)
        error = np.abs(values(after, tensor.name, weight.shape, scheme) - weight).max()
        assert tensor.largest_error == pytest.approx(error, abs=1e-7)
        if scheme == "none" or tensor.name.endswith("bias"):
            assert tensor.largest_error == 0
        elif scheme == "int8":  # half a step, and the steps of a channel are its largest weight / 127
            assert tensor.largest_error <= np.abs(weight).max() / 127 / 2 * 1.001
        elif scheme == "fp16":  # 11 bits of mantissa
            assert tensor.largest_error <= np.abs(weight).max() * 2**-11
    weights = sum(tensor.size_bytes for tensor in report.tensors if tensor.name.endswith("weight"))
    bits = 8 * weights / sum(tensor.size for name, tensor in before.items() if name.endswith("weight"))
    assert BITS[scheme] <= bits < BITS[scheme] + {"none": 0.01, "fp16": 0.01, "int8": 1.2, "int4": 1.2}[scheme]


@pytest.mark.parametrize("arch, scheme", diagonal(ARCHS, quantize.SCHEMES))
def test_reported_scores_are_those_of_the_outputs(
    scheme: str, arch: str, tiny_file: Callable[..., Path], image_file: str, device: str, tmp_path: Path
) -> None:
    source, output = tiny_file(arch), tmp_path / "out.safetensors"
    report = export(source, output, scheme=scheme, data=image_file, device=device)
    trial = Trial.prepare(open_dataset(image_file, size=16, val_fraction=1).val, "occlude", seed=0)
    old, new = (load(path, device).run_floats(trial.inputs) for path in (source, output))

    def psnr(a: np.ndarray, b: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean(np.square(a.astype(np.float64) - b))))

    assert report.fp32.psnr == pytest.approx(psnr(old, trial.clean), abs=1e-3)
    assert report.exported.psnr == pytest.approx(psnr(new, trial.clean), abs=1e-3)
    if scheme == "none":
        assert report.psnr_to_fp32 == math.inf and report.ssim_to_fp32 == 1 and report.exported == report.fp32
        return
    assert report.psnr_to_fp32 == pytest.approx(psnr(new, old), rel=0.01)
    assert report.psnr_to_fp32 > {"fp16": 60, "int8": 30, "int4": 15}[scheme]
    assert report.ssim_to_fp32 > {"fp16": 0.999, "int8": 0.95, "int4": 0.5}[scheme]


@pytest.mark.parametrize("scheme", quantize.SCHEMES)
def test_the_file_describes_and_checks_itself(
    scheme: str, tiny_file: Callable[..., Path], image_file: str, device: str, tmp_path: Path
) -> None:
    source, output = tiny_file("conv"), tmp_path / "out.safetensors"
    report = export(source, output, scheme=scheme, data=image_file, device=device, licence="CC BY 4.0")
    found = metadata(output)
    expected = metadata(source) | {
        "quantize": scheme,
        "licence": "CC BY 4.0",
        "psnr": f"{report.exported.psnr:.3f}",
        "ssim": f"{report.exported.ssim:.4f}",
        "golden": found["golden"],
    }
    assert found == expected
    assert json.loads(found["golden"])["size"] == 16
    result = golden.verify(load(output, device))
    assert result.passed and result.largest_error < 1e-4


def test_the_licence_is_kept(tiny_file: Callable[..., Path], image_file: str, device: str, tmp_path: Path) -> None:
    export(tiny_file("conv"), tmp_path / "out.safetensors", data=image_file, device=device)
    assert metadata(tmp_path / "out.safetensors")["licence"] == "CC0-1.0"


def test_a_run_folder_stands_for_its_best_weights(run: Path, device: str, tmp_path: Path) -> None:
    reports = [
        export(path, tmp_path / f"{i}.safetensors", device=device)
        for i, path in enumerate((run, run / "best.safetensors", str(run)))
    ]
    files = [(tmp_path / f"{i}.safetensors").read_bytes() for i in range(3)]
    assert files[0] == files[1] == files[2]
    best = load_file(run / "best.safetensors")
    assert all(np.array_equal(best[name], value) for name, value in load_file(tmp_path / "0.safetensors").items())
    assert reports[0].data == "photos.npz"


def test_scores_are_from_the_runs_own_validation_images(run: Path, device: str, tmp_path: Path) -> None:
    report = export(run, tmp_path / "out.safetensors", device=device)
    stored = metadata(run / "best.safetensors")
    assert report.images == 2  # a tenth of the limit, none of which was trained on
    assert report.fp32.psnr == pytest.approx(float(stored["psnr"]), abs=2e-3)
    assert report.fp32.ssim == pytest.approx(float(stored["ssim"]), abs=2e-4)


def test_optimizer_state_is_left_behind(run: Path, device: str, tmp_path: Path) -> None:
    assert any(name.startswith("optimizer.") for name in load_file(run / "last.safetensors"))
    report = export(run / "last.safetensors", tmp_path / "out.safetensors", device=device)
    names = set(load_file(tmp_path / "out.safetensors"))
    assert names == {tensor.name for tensor in report.tensors} == set(load_file(run / "best.safetensors"))


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
def test_a_quantized_file_is_refused(scheme: str, tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"is quantized already \({scheme}\); export from the fp32 checkpoint"):
        export(tiny_file("conv", scheme), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_arguments_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown quantization 'int2'; choose one of none, fp16, int8, int4"):
        export(tmp_path / "missing", tmp_path / "out.safetensors", scheme="int2")
    for name in ("out.bin", "out", "out.safetensors.gz"):
        with pytest.raises(UsageError, match=r"ends in \.safetensors"):
            export(tmp_path / "missing", tmp_path / name)


def test_missing_or_unfit_files_and_data_are_refused(run: Path, tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    with pytest.raises(WeightsError, match="no such weight file"):
        export(tmp_path / "missing.safetensors", output)
    with pytest.raises(WeightsError, match=r"best\.safetensors: no such weight file"):
        export(tmp_path, output)
    with pytest.raises(DataError, match="nowhere"):
        export(run, output, data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="has no targets of 1 channels; export from the run folder"):
        export(tiny_file("conv", out_channels=1), output)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    (broken / "config.json").write_text("{")
    with pytest.raises(TrainingError, match=r"config\.json is damaged"):
        export(broken, output)
    assert not output.exists()
