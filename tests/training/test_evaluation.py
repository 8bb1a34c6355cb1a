"""Scores against scikit-image and NumPy, reproducible trials, and `evaluate`."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from skimage.metrics import peak_signal_noise_ratio

from edgeae.data.datasets import Split
from edgeae.errors import DataError, UsageError, WeightsError
from edgeae.images.scores import score
from edgeae.inference.load import load
from edgeae.training.evaluation import Trial, evaluate


def pair(n: int = 4, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images with growing noise, and the clean ones."""
    clean = np.stack([photo(size, size, seed=seed) for seed in range(n)]).astype(np.float32) / 255
    noise = np.random.default_rng(1).normal(0, 0.05, clean.shape) * np.arange(1, n + 1)[:, None, None, None]
    return np.clip(clean + noise, 0, 1).astype(np.float32), clean


def split(n: int = 6, size: int = 16) -> Split:
    images = np.stack([photo(size, size, seed=seed) for seed in range(n)])
    return Split(images, None, [f"{i}.png" for i in range(n)])


def test_a_perfect_output_has_infinite_psnr_which_is_null_in_json() -> None:
    _, clean = pair()
    scores = score(clean, clean)
    assert (scores.mse, scores.psnr, scores.ssim, scores.sharpness) == (0, math.inf, pytest.approx(1), pytest.approx(1))
    evaluation = Trial(clean, clean, np.zeros(clean.shape[:3], bool), "none").evaluate(lambda x: x)
    document = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert document["images"] == 4
    assert document["corrupt"] == "none"
    assert document["input"]["psnr"] is None
    assert document["output"]["psnr"] is None
    assert document["output"]["mse"] == 0
    assert evaluation.output.psnr == math.inf  # the object itself keeps it


def test_a_trial_is_the_same_for_the_same_seed() -> None:
    first, again = (Trial.prepare(split(), "occlude:0.2+noise", seed=3) for _ in range(2))
    for name in ("inputs", "clean", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.inputs.dtype == first.clean.dtype == np.float32
    np.testing.assert_allclose(first.clean, split().inputs / 255, atol=1e-6)  # in order, not varied
    assert not np.array_equal(first.inputs, first.clean)
    assert not np.array_equal(first.mask, Trial.prepare(split(), "occlude:0.2+noise", seed=4).mask)


def test_a_limit_takes_the_first_images_with_the_same_damage() -> None:
    everything, few = Trial.prepare(split(), "occlude", seed=0), Trial.prepare(split(), "occlude", seed=0, limit=2)
    np.testing.assert_array_equal(few.inputs, everything.inputs[:2])
    np.testing.assert_array_equal(few.mask, everything.mask[:2])
    assert len(Trial.prepare(split(), "occlude", seed=0, limit=100).inputs) == 6
    with pytest.raises(UsageError, match="Unknown corruption"):
        Trial.prepare(split(), "rust", seed=0)


def test_a_trial_scores_the_damage_and_the_output() -> None:
    trial = Trial.prepare(split(), "occlude:0.2", seed=0)
    outside = trial.mask[..., None]
    scores = trial.evaluate(lambda x: np.where(outside, 0.5, x).astype(np.float32))
    assert scores.images == 6
    assert scores.corrupt == "occlude:0.2"
    assert scores.input == score(trial.inputs, trial.clean, trial.mask)
    expected = -10 * math.log10(np.mean((0.5 - trial.clean[trial.mask].astype(float)) ** 2))
    assert scores.output.hole_psnr == pytest.approx(expected, rel=1e-6)
    # Nothing but the holes differs: the error of the whole is theirs, spread over all pixels.
    assert scores.output.mse == pytest.approx(10 ** (-expected / 10) * trial.mask.mean(), rel=1e-5)
    json.dumps(scores.as_dict(), allow_nan=False)


def test_input_scores_need_as_many_channels_as_the_targets() -> None:
    images = split()
    grey = images.inputs.mean(-1, keepdims=True).astype(np.uint8)
    trial = Trial.prepare(Split(images.inputs, grey, images.names), "none", seed=0)
    assert trial.clean.shape == (6, 16, 16, 1)
    scores = trial.evaluate(lambda x: trial.clean)
    assert scores.input is None
    assert scores.as_dict()["input"] is None
    assert scores.output.mse == 0


def test_evaluate_scores_a_model_on_data(device: str, tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", split().inputs)
    ae = load(tiny_file("conv"), device)
    scores = evaluate(ae, tmp_path / "data.npy")
    assert scores == evaluate(ae, tmp_path / "data.npy")
    assert (scores.images, scores.corrupt) == (6, "occlude:0.125")  # the damage in its metadata
    trial = Trial.prepare(split(), "occlude", seed=0)
    output = ae.reconstruct(trial.inputs)
    assert scores.output.psnr == pytest.approx(peak_signal_noise_ratio(trial.clean, output, data_range=1), rel=1e-5)
    assert evaluate(ae, tmp_path / "data.npy", corrupt="none").input.psnr == math.inf

    np.save(tmp_path / "grey.npy", split().inputs[..., :1])
    with pytest.raises(DataError, match="targets have 1 channels, but the model gives 3"):
        evaluate(ae, tmp_path / "data.npy", targets=tmp_path / "grey.npy")


def test_a_model_of_pairs_needs_their_targets(tiny_file: Callable[..., Path], device: str) -> None:
    session = load(tiny_file("conv"), device)
    session.metadata["task"] = "image-to-image"
    with pytest.raises(UsageError, match="`targets`"):
        evaluate(session, "faces", limit=4)
    session.metadata["task"] = "vignette:0.5"
    with pytest.raises(WeightsError, match=r"to undo 'vignette:0.5', unknown here: give `corrupt`, or update edgeae"):
        evaluate(session, "faces", limit=4)
