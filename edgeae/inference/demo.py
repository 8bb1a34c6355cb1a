"""Damage the sample pictures as training does, restore them, and show and score the result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeae.config import task_of
from edgeae.images.arrays import to_float
from edgeae.images.damage.spec import Corruption, parse
from edgeae.images.drawing.grids import comparison
from edgeae.images.files.array_io import write_image
from edgeae.images.scores import score
from edgeae.inference.inpainting import HoleTraining, fill_holes
from edgeae.inference.sample_photos import samples
from edgeae.inference.session import Session

Floats = npt.NDArray[np.float32]

HEADERS = ("original", "damaged", "restored")
SHOWN_SIDE = 128  # pixels


@dataclass(frozen=True)
class Demonstration:
    """A sample picture, damaged and restored.

    Attributes:
        name: of the sample.
        corrupt: the damage that was done to it.
        masked: whether its holes were known, as with a mask, and all else kept.
        psnr_before, psnr_after: dB over the whole image.
        hole_psnr_before, hole_psnr_after: dB over the holes; None without holes.
        ms: time for restoring it.
        picture: path of original, damaged and restored side by side.
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
        session: the model; the samples have the size it was trained on, or are larger if it takes any.
        folder: for `NAME.png` of each sample, and `samples.png` with all of them.
        corrupt: the damage (images/damage/spec.py). Where it has several choices, the samples take turns.
        seed: of the damage.
    """
    damages = [_split_smear(session, damage) for damage in list_kinds(parse(corrupt))]
    size = session.config.size
    shown = samples(max(size, SHOWN_SIDE) if session.config.takes_any_size else size, session.config.in_channels)
    session.reconstruct(shown[0].image)  # compiles, so that the times are those of a warm network
    session.reconstruct(shown[0].image)
    rows, results = [], []
    for i, sample in enumerate(shown):
        clean = to_float(sample.image)
        damage, masked = damages[i % len(damages)]
        damaged, mask = damage(clean, np.random.default_rng((seed, i)))
        started = time.perf_counter()
        restored = restore_masked(session, damaged, mask) if masked else session.reconstruct(damaged)
        ms = (time.perf_counter() - started) * 1e3
        before, after = (score(image[None], clean[None], mask[None]) for image in (damaged, restored))
        row = [clean, damaged, restored]
        path = folder / f"{sample.name}.png"
        write_image(comparison([row], HEADERS, min_side=256), path)
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
    write_image(comparison(rows, HEADERS, [sample.name for sample in shown], min_side=192), folder / "samples.png")
    return results


def _split_smear(session: Session, damage: Corruption) -> tuple[Corruption, bool]:
    """Return the damage to do, and whether to give its mask: smeared holes are what a mask makes of plain ones."""
    [steps] = damage.choices
    if len(steps) > 1 and steps[-1].name == "smear" and session.config.takes_any_size:
        return Corruption((steps[:-1],)), True
    return damage, False


def restore_masked(session: Session, damaged: Floats, hole: npt.NDArray[np.bool_]) -> Floats:
    """Restore an image (H, W, C) in [0, 1] in its hole (H, W) only, as `photo.restore` does with a mask."""
    training = HoleTraining.of(session.config, task_of(session.metadata))
    filled = fill_holes(damaged, hole, lambda x: session.run_floats(x[None])[0], training)
    result: Floats = np.where(hole[..., None], filled, damaged)
    return result


def list_kinds(damage: Corruption) -> list[Corruption]:
    """Return the choices of a damage that differ in more than strength, without that of no damage."""
    kinds: dict[tuple[str, ...], Corruption] = {}
    for steps in filter(None, damage.choices):
        kinds.setdefault(tuple(step.name for step in steps), Corruption((steps,)))
    return list(kinds.values()) or [Corruption()]
