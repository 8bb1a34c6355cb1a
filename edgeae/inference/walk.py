"""Walk from the code of one image to that of the next, and decode the steps: whole images, or piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.inference import tiles
from edgeae.inference.tiles import Strip

Floats: TypeAlias = npt.NDArray[np.float32]
Positions: TypeAlias = npt.NDArray[np.float64]  # from 0 to 1, between two images
Run: TypeAlias = Callable[..., list[Floats]]  # an engine's `run`
Path: TypeAlias = Callable[[Floats, Floats, float], Floats]  # two ends and a position between them

_GROUPS = (8, 4, 2, 1)  # frames that may be decoded in one pass over the pieces
_NETWORK_SHARE = 0.6  # of the memory, for one of two graphs: one finds the features, one decodes the frames


def slerp(a: Floats, b: Floats, t: float) -> Floats:
    """Interpolate along the arc from `a` (t = 0) to `b` (t = 1), Shoemake 1985; linearly if they are (anti)parallel."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(np.vdot(a, b)) / norm if norm > 0 else 1.0
    if abs(cosine) > 0.9999:  # sin(angle) divides below
        return lerp(a, b, t)
    angle = np.arccos(cosine)
    mixed: Floats = ((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)).astype(np.float32)
    return mixed


def lerp(a: Floats, b: Floats, t: float) -> Floats:
    """Interpolate linearly from `a` (t = 0) to `b` (t = 1), exactly at both ends."""
    mixed: Floats = ((1 - t) * a + t * b).astype(np.float32)
    return mixed


PATHS: dict[str, Path] = {"linear": lerp, "slerp": slerp}


def decode_walk(run: Run, keys: Sequence[Floats], positions: Positions, path: Path) -> Floats:
    """Decode a walk from key image to key image, (1, H, W, C) each: (frames, H, W, C)."""
    # A residual's skip features walk with its code, so that both ends are the reconstructions.
    features = [[part[0] for part in run("features", key)] for key in keys]
    frames = [features[0]]
    for a, b in pairwise(features):
        for t in positions[1:]:  # position 0 of a pair is the last frame of the pair before
            frames.append([path(p, q, float(t)) for p, q in zip(a, b, strict=True)])
    [images] = run("decode", *(np.stack(part) for part in zip(*frames, strict=True)))
    return images


def plan_walk(
    config: ModelConfig, max_mem: int | None, height: int, width: int, keys: int, steps: int
) -> tuple[tiles.Tiling, int] | None:
    """Return how to cut the keys and the frames of a walk into pieces, and how many frames to decode in one pass.

    Many frames in one pass need low pieces, whose overlaps are too small to be exact: on a noisy photo 51 to 63 dB to
    the exact result. Few frames need many passes. What computes the fewest pixels in all is taken.

    Args:
        config: of the network.
        max_mem: bytes for the network's layers and the rows that are joined; None where no piece is needed.
        height, width: of the images in pixels.
        keys: number of key images.
        steps: frames from one key to the next, both included.

    Returns:
        The cut and the number of frames; None where the images go through whole.

    Raises:
        UsageError: not even the smallest pieces fit.
    """
    if max_mem is None:
        return None
    memory = max(tiles.MIN_MEM, int(_NETWORK_SHARE * max_mem))
    frames = (keys - 1) * (steps - 1) + 1
    candidates: list[tuple[int, int, tiles.Tiling]] = []
    for group in _GROUPS:
        column = 4 * (2 * keys * config.in_channels + 3 * min(group, frames) * config.out_channels)
        try:
            tiling = tiles.plan(height, width, config, memory, column)
        except UsageError:
            if group == _GROUPS[-1] and not candidates:
                raise
            continue
        passes = -(-frames // group)  # each finds the features of two keys, and decodes its frames
        work = math.prod(tiling.shape) * tiling.pieces * (2 * passes + frames)
        candidates.append((work, -group, tiling))
    _, group, tiling = min(candidates, key=lambda candidate: candidate[:2])
    return (tiling, -group) if tiling.pieces > 1 else None


def decode_walk_in_pieces(
    run: Run,
    keys: Sequence[Floats],
    positions: Positions,
    tiling: tiles.Tiling,
    group: int,
    convert: Callable[[Floats], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Decode a linear walk as `decode_walk` does, some frames at a time and piece by piece.

    Args:
        run: the engine's.
        keys, positions: as in `decode_walk`.
        tiling: of the keys' size.
        group: frames to decode in one pass over the pieces.
        convert: changes the type of joined rows before they are kept.

    Returns:
        (frames, H, W, C).
    """
    height, width, channels = keys[0].shape[1:]
    steps = [(0, 0.0)] + [(pair, float(t)) for pair in range(len(keys) - 1) for t in positions[1:]]
    frames: npt.NDArray[Any] | None = None
    for start in range(0, len(steps), group):
        wanted = steps[start : start + group]
        first, last = wanted[0][0], wanted[-1][0] + 2  # of the keys that these frames lie between
        # Keys side by side in the channels, so that one strip holds the same rows of all; so do the frames.
        read_rows = tiles.row_reader(np.concatenate([key[0] for key in keys[first:last]], axis=-1))

        def read(count: int, read_rows: Callable[[int], npt.NDArray[Any]] = read_rows) -> Strip:
            return Strip(read_rows(count))

        def decode(piece: Strip, wanted: list[tuple[int, float]] = wanted, first: int = first) -> Floats:
            images = np.split(piece.pixels, piece.pixels.shape[-1] // channels, axis=-1)
            features = [[part[0] for part in run("features", np.ascontiguousarray(image)[None])] for image in images]
            ends = [(features[pair - first], features[pair - first + 1], t) for pair, t in wanted]
            walked = [[lerp(p, q, t) for p, q in zip(a, b, strict=True)] for a, b, t in ends]
            [decoded] = run("decode", *(np.stack(part) for part in zip(*walked, strict=True)))
            return np.concatenate(list(decoded), axis=-1)

        top = 0
        for _, band in tiles.join(read, height, tiling, decode):
            assert band is not None  # `decode` has a result for every piece
            rows = convert(band).reshape(len(band), width, len(wanted), -1).transpose(2, 0, 1, 3)
            if frames is None:
                frames = np.empty((len(steps), height, *rows.shape[2:]), rows.dtype)
            frames[start : start + len(wanted), top : top + len(band)] = rows
            top += len(band)
    assert frames is not None
    return frames
