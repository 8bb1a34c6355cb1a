"""What the models score, beside methods without learning: the measures that score_tables.py makes tables of.

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
from edgeae.images import arrays as imaging
from edgeae.images import metrics
from edgeae.images.damage.kinds import FILL
from edgeae.inference.demo import mended
from edgeae.inference.session import Session
from edgeae.training.evaluation import Trial

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Filler = Callable[[Floats, Bools], Floats]  # one image, its hole → the image
Measures = dict[str, float]

SIGMA = 25 / 255
SIDE = 128  # pixels of faces and photos, the size that the files of DATA have or are reduced to


# ---- holes ---------------------------------------------------------------------------------------------------------


def square_holes(count: int, size: int, centre: bool) -> Bools:
    """A square of 1/16 of the area somewhere in each image, or of 1/4 in the middle."""
    rng, side = np.random.default_rng(0), size // (2 if centre else 4)
    holes = np.zeros((count, size, size), np.bool_)
    for hole in holes:
        y, x = (size // 4, size // 4) if centre else rng.integers(0, size - side + 1, 2)
        hole[y : y + side, x : x + side] = True
    return holes


def with_fill(image: Floats, hole: Bools) -> Floats:
    """The hole in the colour that training gives it."""
    return np.where(hole[..., None], FILL, image)


def with_mean(image: Floats, hole: Bools) -> Floats:
    """The hole in the mean colour of the rest."""
    return np.where(hole[..., None], image[~hole].mean(axis=0), image)


def inpainted(method: int) -> Filler:
    """OpenCV's inpainting, radius 3."""
    return lambda image, hole: imaging.to_float(cv2.inpaint(imaging.to_uint8(image), hole.astype(np.uint8), 3, method))


WITHOUT_LEARNING: dict[str, Filler] = {
    "damaged": with_fill,
    "mean-fill": with_mean,
    "OpenCV, Navier-Stokes": inpainted(cv2.INPAINT_NS),
    "OpenCV, Telea": inpainted(cv2.INPAINT_TELEA),
}


def hole_measures(clean: Floats, fill: Filler) -> Measures:
    """PSNR of whole images and of their holes."""
    found = {}
    for name, centre in (("square", False), ("centre", True)):
        holes = square_holes(len(clean), clean.shape[1], centre)
        images = np.stack([fill(image, hole) for image, hole in zip(clean, holes, strict=True)])
        found[name] = metrics.pooled_psnr(images, clean)
        found[f"{name}, hole"] = metrics.pooled_psnr(images, clean, mask=holes)
    return found


def network_alone(session: Session) -> Filler:
    """What the network makes of the image with grey holes, all of it its own."""
    return lambda image, hole: session.run_floats(with_fill(image, hole)[None])[0]


def with_mask(session: Session) -> Filler:
    """What `edgeae run --mask` does: the holes filled and fitted to their edges, the rest kept."""
    return lambda image, hole: mended(session, with_fill(image, hole), hole)


def undamaged_measures(session: Session, clean: Floats) -> Measures:
    """What the network gives back of whole images: fidelity and sharpness (`edgeae.images.metrics.sharpness`)."""
    output = session.run_floats(clean)
    return {
        "undamaged": metrics.pooled_psnr(output, clean),
        "ssim": float(np.mean(metrics.ssim(output, clean))),
        "sharpness": float(np.nanmean(metrics.sharpness(output, clean))),
    }


# ---- noise, JPEG, colour -------------------------------------------------------------------------------------------


def colour_error(images: Floats, clean: Floats) -> float:
    """Root mean squared distance in the a,b plane of CIELAB."""
    return ab_error(rgb2lab(images)[..., 1:], clean)


def ab_error(ab: npt.NDArray[np.float64], clean: Floats) -> float:
    """The same of a and b, (N, H, W, 2)."""
    return float(np.sqrt(np.square(ab - rgb2lab(clean)[..., 1:]).sum(-1).mean()))


def non_local_means(trial: Trial) -> tuple[str, Floats]:
    """OpenCV's non-local means at the setting that is best on the first images of the trial itself."""

    def run(images: Floats, h: int, colour: int, template: int) -> Floats:
        return imaging.to_float(
            np.stack(
                [
                    cv2.fastNlMeansDenoisingColored(image, None, h, colour, template, 21)
                    for image in imaging.to_uint8(images)
                ]
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
    """Validation photos, and them damaged."""

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

    def of(self, session: Session) -> Measures:
        return self.measures(*(session.run_floats(trial.inputs) for trial in (self.noisy, self.jpeg, self.grey)))


def mean_colour(data: Path) -> npt.NDArray[np.float64]:
    """a and b of training photos on the average."""
    few = open_dataset(data / "photos" / "train", size=SIDE, val_fraction=1, limit=500, seed=1).val
    mean: npt.NDArray[np.float64] = rgb2lab(few.inputs / 255)[..., 1:].mean((0, 1, 2))
    return mean


# ---- codes ---------------------------------------------------------------------------------------------------------


def vae_measures(session: Session, clean: Floats) -> Measures:
    """Reconstruction from μ; the bound that training minimizes, nats an image; dimensions in use; steps of morphs."""
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
    """Of a morph's 15 steps the largest over the mean, as root mean squared differences."""
    frames = session.interpolate(a, b, steps=16)
    steps = np.sqrt(np.square(np.diff(frames, axis=0)).mean((1, 2, 3)))
    return float(steps.max() / steps.mean())


def pca_psnr(train: Floats, val: Floats, components: int) -> float:
    """Validation images from as many principal components of the training images."""
    flat, mean = train.reshape(len(train), -1), train.reshape(len(train), -1).mean(0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:components]
    centred = val.reshape(len(val), -1) - mean
    return metrics.pooled_psnr((centred @ axes.T @ axes + mean).reshape(val.shape).clip(0, 1), val)
