"""Walk from the code of one image to that of the next, and decode the steps: whole images, or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.inference import tiles
from edgeae.inference.tiles import Strip

Floats: TypeAlias = npt.NDArray[np.float32]
Positions: TypeAlias = npt.NDArray[np.float64]  # from 0 to 1, between two images
Run: TypeAlias = Callable[..., list[Floats]]  # an engine's `run`
Path: TypeAlias = Callable[[Floats, Floats, float], Floats]  # two ends and a position between them

_GROUP = 2  # frames that are decoded in one pass over the pieces
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
) -> tiles.Tiling | None:
    """Return how to cut the keys and the frames of a walk into pieces; None where they go through whole.

    Args:
        config: of the network.
        max_mem: bytes for the network's layers and the rows that are joined; None where no piece is needed.
        height, width: of the images in pixels.
        keys: number of key images.
        steps: frames from one key to the next, both included.

    Raises:
        UsageError: not even the smallest pieces fit.
    """
    if max_mem is None:
        return None
    frames = min(_GROUP, (keys - 1) * (steps - 1) + 1)
    column = 4 * (2 * keys * config.in_channels + 3 * frames * config.out_channels)
    tiling = tiles.plan(height, width, config, max(tiles.MIN_MEM, int(_NETWORK_SHARE * max_mem)), column)
    return tiling if tiling.pieces > 1 else None


def decode_walk_in_pieces(
    run: Run,
    keys: Sequence[Floats],
    positions: Positions,
    tiling: tiles.Tiling,
    convert: Callable[[Floats], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Decode a linear walk as `decode_walk` does, some frames at a time and piece by piece.

    Args:
        run: the engine's.
        keys, positions: as in `decode_walk`.
        tiling: of the keys' size.
        convert: changes the type of joined rows before they are kept.

    Returns:
        (frames, H, W, C).
    """
    height, width, channels = keys[0].shape[1:]
    steps = [(0, 0.0)] + [(pair, float(t)) for pair in range(len(keys) - 1) for t in positions[1:]]
    frames: npt.NDArray[Any] | None = None
    for start in range(0, len(steps), _GROUP):
        group = steps[start : start + _GROUP]
        first, last = group[0][0], group[-1][0] + 2  # of the keys that these frames lie between
        # Keys side by side in the channels, so that one strip holds the same rows of all; so do the frames.
        read_rows = tiles.row_reader(np.concatenate([key[0] for key in keys[first:last]], axis=-1))

        def read(count: int, read_rows: Callable[[int], npt.NDArray[Any]] = read_rows) -> Strip:
            return Strip(read_rows(count))

        def decode(piece: Strip, group: list[tuple[int, float]] = group, first: int = first) -> Floats:
            images = np.split(piece.pixels, piece.pixels.shape[-1] // channels, axis=-1)
            features = [[part[0] for part in run("features", np.ascontiguousarray(image)[None])] for image in images]
            ends = [(features[pair - first], features[pair - first + 1], t) for pair, t in group]
            walked = [[lerp(p, q, t) for p, q in zip(a, b, strict=True)] for a, b, t in ends]
            [decoded] = run("decode", *(np.stack(part) for part in zip(*walked, strict=True)))
            return np.concatenate(list(decoded), axis=-1)

        top = 0
        for _, band in tiles.join(read, height, tiling, decode):
            assert band is not None  # `decode` has a result for every piece
            rows = convert(band).reshape(len(band), width, len(group), -1).transpose(2, 0, 1, 3)
            if frames is None:
                frames = np.empty((len(steps), height, *rows.shape[2:]), rows.dtype)
            frames[start : start + len(group), top : top + len(band)] = rows
            top += len(band)
    assert frames is not None
    return frames
