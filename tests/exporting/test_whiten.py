"""Whitening the code of a vae."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.generated_faces import generate
from edgeae.errors import UsageError
from edgeae.exporting.weights import export
from edgeae.exporting.whiten import whiten
from edgeae.images.arrays import to_float
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.network import weight_file
from edgeae.training.loop import train


@pytest.fixture
def images() -> np.ndarray:
    return to_float(generate(300, 16, seed=4)[0])


def test_the_codes_have_mean_0_and_covariance_1_and_nothing_else_changes(
    images: np.ndarray, device: str, tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_file("vae")
    file = weight_file.read(path)
    changed = whiten(file.floats(), file.config, images, device)
    weight_file.write(tmp_path / "s.safetensors", changed, file.metadata)
    before, after = load(path, device), load(tmp_path / "s.safetensors", device)

    mu, logvar = after.posterior(images)
    assert np.abs(mu.mean(axis=0)).max() < 1e-3
    variances = np.exp(logvar)
    assert np.ptp(variances, axis=0).max() == 0  # one σ for all
    covariance = np.cov(mu.T.astype(np.float64), ddof=0)
    covariance -= np.diag(np.diag(covariance))
    assert np.abs(np.diag(np.cov(mu.T, ddof=0)) + variances[0] - 1).max() < 1e-2
    assert np.abs(after.run_floats(images) - before.run_floats(images)).max() < 1e-3
    walks = [session.interpolate(images[0], images[1], steps=5) for session in (before, after)]
    assert np.abs(walks[0] - walks[1]).max() < 1e-3


def test_random_codes_decode_to_images_like_the_training_images(
    images: np.ndarray, device: str, tiny_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    """Pixels decoded from random codes have nearly the mean and spread that they have in reconstructions."""
    np.save(tmp_path / "faces.npy", (images * 255).astype(np.uint8))
    settings = TrainConfig(
        str(tmp_path / "faces.npy"), epochs=10, batch=16, lr=3e-3, beta=1e-3, corrupt="none", augment=False
    )
    train(tiny_config("vae"), settings, tmp_path / "run", device=device)

    def distance(session: Session) -> float:
        drawn, back = session.sample(200, seed=0, dtype=np.float32), session.run_floats(images)
        return float(np.abs(drawn.mean(0) - back.mean(0)).mean() + np.abs(drawn.std(0) - back.std(0)).mean())

    options: dict[str, Any] = {"device": device, "scheme": "int8"}
    plain = export(tmp_path / "run", tmp_path / "plain.safetensors", **options)
    standard = export(
        tmp_path / "run", tmp_path / "standard.safetensors", **options, standardize=str(tmp_path / "faces.npy")
    )
    assert standard.exported.psnr == pytest.approx(plain.exported.psnr, abs=0.3)
    assert distance(load(standard.path, device)) < 0.7 * distance(load(plain.path, device))


def test_only_a_vae_is_whitened(
    images: np.ndarray, device: str, tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = tiny_file("conv")
    with pytest.raises(UsageError, match="only the code of a vae"):
        export(path, tmp_path / "x.safetensors", device=device, standardize="faces")
    with pytest.raises(UsageError, match="only a vae has a posterior"):
        load(path, device).posterior(images)


def test_the_posterior_of_one_image(images: np.ndarray, device: str, tiny_file: Callable[..., Path]) -> None:
    session = load(tiny_file("vae"), device)
    mu, logvar = session.posterior(images[:3])
    assert mu.shape == logvar.shape == (3, session.config.code)
    assert np.abs(mu - session.encode(images[:3])).max() < 1e-6
    one = session.posterior(images[1])
    assert np.abs(one[0] - mu[1]).max() < 1e-5 and np.abs(one[1] - logvar[1]).max() < 1e-5
