"""What the commands `run` and `corrupt` do: files in, files out, and the demonstration on the sample pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeae import evaluation, imaging, pictures
from edgeae.corruptions import parse
from edgeae.errors import DeviceError, EdgeaeError, UsageError
from edgeae.samples import samples
from edgeae.session import Session


@dataclass(frozen=True)
class Restored:
    """One image that was restored: where from, where to, its size in pixels, and the time in the network."""

    source: str
    output: str
    width: int
    height: int
    ms: float


@dataclass(frozen=True)
class Failed:
    """One image that was not, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Demonstration:
    """One sample: PSNR in dB before and after, of the image and of its holes, and the time in the network."""

    name: str
    psnr_before: float
    psnr_after: float
    hole_psnr_before: float | None
    hole_psnr_after: float | None
    ms: float
    picture: str


def restore_files(session: Session, inputs: Sequence[Path], output: Path | None,
                  on_done: Callable[[Restored | Failed], None] = lambda result: None) -> tuple[list[Restored],
                                                                                             list[Failed]]:
    """Restore image files one after the other; one that fails does not stop the others.

    Args:
        session: the model.
        inputs: image files.
        output: for one input, the file or an existing folder; for several, a folder. None writes `photo.out.jpg`
            beside `photo.jpg`.
        on_done: called after each file.

    Raises:
        UsageError: `output` is no image file, is a file for several inputs, or would overwrite an input in its folder.
        DeviceError: the device failed; what was written stays.
    """
    targets = _targets(inputs, output)
    done: list[Restored] = []
    failed: list[Failed] = []
    for source, target in zip(inputs, targets, strict=True):
        try:
            pixels = imaging.read_image(source, session.config.in_channels)
            started = time.perf_counter()
            restored = session.reconstruct(pixels)
            ms = (time.perf_counter() - started) * 1e3
            imaging.write_image(restored, target)
            height, width = restored.shape[:2]
            done.append(Restored(str(source), str(target), width, height, ms))
            on_done(done[-1])
        except DeviceError:
            raise
        except EdgeaeError as e:
            failed.append(Failed(str(source), str(e)))
            on_done(failed[-1])
    return done, failed


def _targets(inputs: Sequence[Path], output: Path | None) -> list[Path]:
    if output is None:
        return [source.with_name(f"{source.stem}.out{source.suffix}") for source in inputs]
    if len(inputs) == 1 and output.suffix and not output.is_dir():
        imaging.format_of(output, None, imaging.WRITE_FORMATS)
        return [output]
    if len(inputs) > 1 and (output.is_file() or output.suffix.lower().removeprefix(".") in imaging.WRITE_FORMATS):
        raise UsageError(f"{output} names one file for {len(inputs)} inputs; name a folder after -o.")
    targets = [output / source.name for source in inputs]
    if len(set(targets)) < len(targets):
        raise UsageError("two inputs have the same file name; restore them into different folders.")
    if any(source.resolve() == target.resolve() for source, target in zip(inputs, targets, strict=True)):
        raise UsageError(f"the inputs lie in {output} themselves and would be overwritten; name another folder.")
    return targets


def demonstrate(session: Session, folder: Path, corrupt: str = "occlude", seed: int = 0) -> list[Demonstration]:
    """Damage each sample picture, restore it, and write original / damaged / restored side by side.

    Args:
        session: the model; the samples are shown at the size it was trained on.
        folder: gets `NAME.png` for each sample and `samples.png` with all of them.
        corrupt: the damage (corruptions.py), drawn from `seed`.
    """
    damage = parse(corrupt)
    shown = samples(session.config.size, session.config.in_channels)
    session.reconstruct(shown[0].image)  # compiles, so that the times are those of a warm network
    session.reconstruct(shown[0].image)
    rows, results = [], []
    for i, sample in enumerate(shown):
        clean = imaging.to_float(sample.image)
        damaged, mask = damage(clean, np.random.default_rng((seed, i)))
        started = time.perf_counter()
        restored = session.reconstruct(damaged)
        ms = (time.perf_counter() - started) * 1e3
        before, after = (evaluation.score(image[None], clean[None], mask[None]) for image in (damaged, restored))
        row = [clean, damaged, restored]
        path = folder / f"{sample.name}.png"
        imaging.write_image(pictures.comparison([row], HEADERS, min_side=256), path)
        rows.append(row)
        results.append(Demonstration(sample.name, before.psnr, after.psnr, before.hole_psnr, after.hole_psnr, ms,
                                     str(path)))
    imaging.write_image(pictures.comparison(rows, HEADERS, [sample.name for sample in shown], min_side=192),
                        folder / "samples.png")
    return results


HEADERS = ("original", "damaged", "restored")


def corrupt_file(source: Path, output: Path, corrupt: str, seed: int = 0) -> float:
    """Damage an image file as training does; returns the share of its pixels that were replaced, 0 to 1."""
    damage = parse(corrupt)
    pixels = imaging.to_float(imaging.read_image(source))
    damaged, mask = damage(pixels, np.random.default_rng(seed))
    imaging.write_image(damaged, output)
    return float(mask.mean())
