"""Fine-tuning of rounded weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeae.config import ModelConfig, TrainConfig
from edgeae.errors import UsageError
from edgeae.exporting.weights import export
from edgeae.inference.load import load
from edgeae.network import quantize, weight_file
from edgeae.training.loop import train


@pytest.fixture(scope="module")
def run(device: str, tiny_config: Callable[..., ModelConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few epochs."""
    folder = tmp_path_factory.mktemp("runs") / "conv"
    settings = TrainConfig("faces", epochs=12, batch=8, lr=3e-3, limit=40, corrupt="none", augment=False)
    train(tiny_config("conv", context=0), settings, folder, device=device)
    return folder


def test_tuning_improves_int4(run: Path, device: str, tmp_path: Path) -> None:
    plain = export(run, tmp_path / "plain.safetensors", scheme="int4", device=device)
    epochs: list[tuple[int, float]] = []
    tuned = export(
        run,
        tmp_path / "tuned.safetensors",
        scheme="int4",
        device=device,
        tune=6,
        on_epoch=lambda epoch, psnr: epochs.append((epoch, psnr)),
    )
    assert [epoch for epoch, _ in epochs] == list(range(7))
    assert epochs[0][1] == pytest.approx(plain.exported.psnr, abs=1e-3)  # tuning begins with the plain rounding
    assert tuned.exported.psnr == pytest.approx(max(psnr for _, psnr in epochs), abs=1e-3)  # the best epoch is kept
    assert tuned.exported.psnr > plain.exported.psnr
    assert tuned.size_bytes == pytest.approx(plain.size_bytes, rel=0.01)
    assert tuned.fp32.psnr == plain.fp32.psnr
    assert load(tuned.path, device).metadata["quantize"] == "int4"


def test_a_worse_epoch_is_not_kept(run: Path, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.exporting.tune.LEARNING_RATES", {"int8": 100.0})
    export(run, tmp_path / "plain.safetensors", scheme="int8", device=device)
    psnrs: list[float] = []
    export(
        run,
        tmp_path / "tuned.safetensors",
        scheme="int8",
        device=device,
        tune=1,
        on_epoch=lambda epoch, psnr: psnrs.append(psnr),
    )
    assert psnrs[1] < psnrs[0]
    plain, tuned = (weight_file.read(tmp_path / f"{name}.safetensors").tensors for name in ("plain", "tuned"))
    assert all(np.array_equal(plain[name], tuned[name]) for name in plain)


@pytest.mark.parametrize("scheme", quantize.SCHEMES)
def test_rounding_is_close_to_the_original(scheme: str) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 3, 11, 5)).astype(np.float32)
    once = quantize.round_trip("a.weight", weight, scheme)
    tolerance = {"none": 0, "fp16": 1e-3, "int8": 0.02, "int4": 0.3}[scheme]
    assert np.abs(once - weight).max() <= tolerance * np.abs(weight).max()
    assert np.array_equal(quantize.round_trip("a.bias", weight, scheme), weight) or scheme == "fp16"


def test_other_schemes_and_lone_files_are_refused(run: Path, device: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8 or int4, not 'fp16'"):
        export(run, tmp_path / "x.safetensors", scheme="fp16", device=device, tune=1)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(UsageError, match="does not lie in its run folder"):
        export(alone, tmp_path / "x.safetensors", scheme="int4", device=device, tune=1)
    assert not (tmp_path / "x.safetensors").exists()
