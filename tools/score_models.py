"""Scores of the models and of methods without learning, from which score_tables.py makes tables.

All images are validation images, which no model was trained on; each model's epoch was chosen by its PSNR on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from skimage.color import rgb2lab

from edgeae.data.datasets import open_dataset
from edgeae.images import metrics
from edgeae.images.arrays import to_float, to_uint8
from edgeae.images.damage.kinds import FILL
from edgeae.inference.demo import restore_masked
from edgeae.inference.session import Session
from edgeae.training.evaluation import Trial

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Filler = Callable[[Floats, Bools], Floats]  # (H, W, C) and its hole (H, W) → (H, W, C)
Measures = dict[str, float]

SIGMA = 25 / 255
SIDE = 128  # of faces and photos, in pixels


# ---- holes ---------------------------------------------------------------------------------------------------------


def square_holes(count: int, size: int, centre: bool) -> Bools:
    """Return (count, size, size): a square of 1/16 of the area anywhere in each image, or of 1/4 in its centre."""
    rng, side = np.random.default_rng(0), size // (2 if centre else 4)
    holes = np.zeros((count, size, size), np.bool_)
    for hole in holes:
        y, x = (size // 4, size // 4) if centre else rng.integers(0, size - side + 1, 2)
        hole[y : y + side, x : x + side] = True
    return holes


def with_fill(image: Floats, hole: Bools) -> Floats:
    """Fill the hole with the colour that it has in training."""
    return np.where(hole[..., None], FILL, image)


def with_mean(image: Floats, hole: Bools) -> Floats:
    """Fill the hole with the mean colour of the rest."""
    return np.where(hole[..., None], image[~hole].mean(axis=0), image)


def opencv_filler(method: int) -> Filler:
    """Return a filler: OpenCV's inpainting, radius 3."""
    return lambda image, hole: to_float(cv2.inpaint(to_uint8(image), hole.astype(np.uint8), 3, method))


WITHOUT_LEARNING: dict[str, Filler] = {
    "damaged": with_fill,
    "mean-fill": with_mean,
    "OpenCV, Navier-Stokes": opencv_filler(cv2.INPAINT_NS),
    "OpenCV, Telea": opencv_filler(cv2.INPAINT_TELEA),
}


def hole_measures(clean: Floats, fill: Filler) -> Measures:
    """Measure PSNR in dB, of whole images and of their holes."""
    measures = {}
    for name, centre in (("square", False), ("centre", True)):
        holes = square_holes(len(clean), clean.shape[1], centre)
        images = np.stack([fill(image, hole) for image, hole in zip(clean, holes, strict=True)])
        measures[name] = metrics.pooled_psnr(images, clean)
        measures[f"{name}, hole"] = metrics.pooled_psnr(images, clean, mask=holes)
    return measures


def network_alone(session: Session) -> Filler:
    """Return a filler: the network's whole output for the image with gray holes."""
    return lambda image, hole: session.run_floats(with_fill(image, hole)[None])[0]


def with_mask(session: Session) -> Filler:
    """Return a filler: what `edgeae run --mask` does, which keeps the pixels outside the hole."""
    return lambda image, hole: restore_masked(session, with_fill(image, hole), hole)


def undamaged_measures(session: Session, clean: Floats) -> Measures:
    """Measure PSNR in dB, SSIM and sharpness of the network's output for undamaged images."""
    output = session.run_floats(clean)
    return {
        "undamaged": metrics.pooled_psnr(output, clean),
        "ssim": float(np.mean(metrics.ssim(output, clean))),
        "sharpness": float(np.nanmean(metrics.sharpness(output, clean))),
    }


# ---- noise, JPEG, colour -------------------------------------------------------------------------------------------


def colour_error(images: Floats, clean: Floats) -> float:
    """Return the root mean squared distance in the a,b plane of CIELAB."""
    return ab_error(rgb2lab(images)[..., 1:], clean)


def ab_error(ab: npt.NDArray[np.float64], clean: Floats) -> float:
    """Return the same for given a and b, (N, H, W, 2)."""
    return float(np.sqrt(np.square(ab - rgb2lab(clean)[..., 1:]).sum(-1).mean()))


def non_local_means(trial: Trial) -> tuple[str, Floats]:
    """Denoise with OpenCV's non-local means at its best setting on some of the same images; return name and result."""

    def run(images: Floats, h: int, colour: int, template: int) -> Floats:
        return to_float(
            np.stack(
                [cv2.fastNlMeansDenoisingColored(image, None, h, colour, template, 21) for image in to_uint8(images)]
            )
        )

    settings = [
        (h, colour, template) for h in (6, 9, 12, 15, 20) for colour in (6, 10, 15, 20, 30) for template in (3, 5, 7)
    ]
    few = slice(0, len(trial.inputs), max(1, len(trial.inputs) // 40))
    best = max(settings, key=lambda setting: metrics.pooled_psnr(run(trial.inputs[few], *setting), trial.clean[few]))
    return f"OpenCV, non-local means (h {best[0]}, colour {best[1]}, template {best[2]})", run(trial.inputs, *best)


@dataclass(frozen=True)
class Photos:
    """Validation photos, clean and with three kinds of damage."""

    clean: Floats
    noisy: Trial
    jpeg: Trial
    grey: Trial

    @classmethod
    def open(cls, data: Path, limit: int | None) -> Photos:
        split = open_dataset(data / "photos", size=SIDE).val
        noisy, jpeg, grey = (Trial.prepare(split, spec, 0, limit) for spec in (f"noise:{SIGMA}", "jpeg:10", "gray"))
        return cls(noisy.clean, noisy, jpeg, grey)

    def measures(self, noisy: Floats, jpeg: Floats, grey: Floats) -> Measures:
        return {
            "noise": metrics.pooled_psnr(noisy, self.clean),
            "jpeg": metrics.pooled_psnr(jpeg, self.clean),
            "colour": colour_error(grey, self.clean),
        }

    def score(self, session: Session) -> Measures:
        return self.measures(*(session.run_floats(trial.inputs) for trial in (self.noisy, self.jpeg, self.grey)))


def mean_colour(data: Path) -> npt.NDArray[np.float64]:
    """Return the mean a and b of training photos."""
    few = open_dataset(data / "photos" / "train", size=SIDE, val_fraction=1, limit=500, seed=1).val
    mean: npt.NDArray[np.float64] = rgb2lab(few.inputs / 255)[..., 1:].mean((0, 1, 2))
    return mean


# ---- codes ---------------------------------------------------------------------------------------------------------


def vae_measures(session: Session, clean: Floats) -> Measures:
    """Measure PSNR of reconstructions from μ, the bound that training minimizes in nats per image, and morphs."""
    mu, logvar = session.posterior(clean)
    kl = 0.5 * (np.exp(logvar) + mu**2 - 1 - logvar)
    noise = np.random.default_rng(0).standard_normal(mu.shape).astype(np.float32)
    drawn = session.decode(mu + np.exp(logvar / 2) * noise, np.float32).clip(1e-6, 1 - 1e-6)
    entropy = -(clean * np.log(drawn) + (1 - clean) * np.log(1 - drawn)).sum((1, 2, 3)).mean()
    output = session.decode(mu, np.float32)
    return {
        "psnr": metrics.pooled_psnr(output, clean),
        "recon": float(entropy),
        "kl": float(kl.sum(1).mean()),
        "nats": float(entropy + kl.sum(1).mean()),
        "active": float((kl.mean(0) > 0.1).sum()),
        "largest step": max(_largest_step(session, a, b) for a, b in pairwise(clean[:40])),
    }


def _largest_step(session: Session, a: Floats, b: Floats) -> float:
    """The largest of a morph's 15 steps relative to their mean, as root mean squared differences."""
    frames = session.interpolate(a, b, steps=16)
    steps = np.sqrt(np.square(np.diff(frames, axis=0)).mean((1, 2, 3)))
    return float(steps.max() / steps.mean())


def pca_psnr(train: Floats, val: Floats, components: int) -> float:
    """Return the PSNR of validation images projected on principal components of the training images."""
    flat, mean = train.reshape(len(train), -1), train.reshape(len(train), -1).mean(0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:components]
    centred = val.reshape(len(val), -1) - mean
    return metrics.pooled_psnr((centred @ axes.T @ axes + mean).reshape(val.shape).clip(0, 1), val)
