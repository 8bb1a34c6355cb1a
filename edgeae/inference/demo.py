"""Damage on purpose: the demonstration on the sample pictures, what becomes of it with and without a mask, and image
files damaged as in training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeae.config import task_of
from edgeae.images import arrays as imaging
from edgeae.images.damage.spec import Corruption, parse
from edgeae.images.drawing import grids as pictures
from edgeae.images.files.array_io import write_image
from edgeae.images.scores import score
from edgeae.inference import inpainting
from edgeae.inference.inpainting import Learned
from edgeae.inference.sample_photos import samples
from edgeae.inference.session import Session

Floats = npt.NDArray[np.float32]

HEADERS = ("original", "damaged", "restored")
SHOWN_SIDE = 128  # pixels


@dataclass(frozen=True)
class Demonstration:
    """One sample: its damage, PSNR in dB before and after, of the image and of its holes, and the network's time.

    `masked`: where the damage is was told, as by `--mask`, and all else kept.
    """

    name: str
    corrupt: str
    masked: bool
    psnr_before: float
    psnr_after: float
    hole_psnr_before: float | None
    hole_psnr_after: float | None
    ms: float
    picture: str


def demonstrate(session: Session, folder: Path, corrupt: str = "occlude", seed: int = 0) -> list[Demonstration]:
    """Damage each sample picture, restore it, and write original / damaged / restored side by side.

    Args:
        session: the model; the samples are shown at the size it was trained on, or larger if it takes any.
        folder: gets `NAME.png` for each sample and `samples.png` with all of them.
        corrupt: the damage (corruptions.py), drawn from `seed`. Of several choices each sample gets another one.
    """
    damages = [_asked(session, damage) for damage in one_of_each_kind(parse(corrupt))]
    size = session.config.size
    shown = samples(max(size, SHOWN_SIDE) if session.config.takes_any_size else size, session.config.in_channels)
    session.reconstruct(shown[0].image)  # compiles, so that the times are those of a warm network
    session.reconstruct(shown[0].image)
    rows, results = [], []
    for i, sample in enumerate(shown):
        clean = imaging.to_float(sample.image)
        damage, masked = damages[i % len(damages)]
        damaged, mask = damage(clean, np.random.default_rng((seed, i)))
        started = time.perf_counter()
        restored = mended(session, damaged, mask) if masked else session.reconstruct(damaged)
        ms = (time.perf_counter() - started) * 1e3
        before, after = (score(image[None], clean[None], mask[None]) for image in (damaged, restored))
        row = [clean, damaged, restored]
        path = folder / f"{sample.name}.png"
        write_image(pictures.comparison([row], HEADERS, min_side=256), path)
        rows.append(row)
        results.append(
            Demonstration(
                sample.name,
                str(damage),
                masked,
                before.psnr,
                after.psnr,
                before.hole_psnr,
                after.hole_psnr,
                ms,
                str(path),
            )
        )
    write_image(
        pictures.comparison(rows, HEADERS, [sample.name for sample in shown], min_side=192), folder / "samples.png"
    )
    return results


def _asked(session: Session, damage: Corruption) -> tuple[Corruption, bool]:
    """The damage to show, and whether to tell where it is: smeared holes are what `--mask` makes of plain ones."""
    [steps] = damage.choices
    if len(steps) > 1 and steps[-1].name == "smear" and session.config.arch != "vae":
        return Corruption((steps[:-1],)), True
    return damage, False


def mended(session: Session, damaged: Floats, hole: npt.NDArray[np.bool_]) -> Floats:
    """What `edgeae run --mask` makes of an image: (H, W, C) in [0, 1] and (H, W)."""
    learned = Learned.of(session.config, task_of(session.metadata))
    filled = inpainting.filled(damaged, hole, lambda x: session.run_floats(x[None])[0], learned)
    result: Floats = np.where(hole[..., None], filled, damaged)
    return result


def one_of_each_kind(damage: Corruption) -> list[Corruption]:
    """The choices of a damage that differ in more than strength, without that of none at all."""
    kinds: dict[tuple[str, ...], Corruption] = {}
    for steps in filter(None, damage.choices):
        kinds.setdefault(tuple(step.name for step in steps), Corruption((steps,)))
    return list(kinds.values()) or [Corruption()]
