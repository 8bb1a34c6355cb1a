"""A loaded model, which `edgeae.load` returns: the one way in which commands and scripts run a network.

    ae = edgeae.load("faces-conv")
    restored = ae.reconstruct("photo.jpg")      # path or bytes or PIL in: PIL out; array in: array out

Each public method takes one image or many, converts them to floats, pads them to the network's stride, has the engine
run the network, and returns the result in the form of its input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.errors import ImageError, UsageError
from edgeae.images.arrays import fit, to_float, to_uint8
from edgeae.images.files.array_io import read_image
from edgeae.inference import tiles

Floats: TypeAlias = npt.NDArray[np.float32]
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
Codes: TypeAlias = npt.NDArray[np.floating[Any]]
Walk: TypeAlias = Callable[[Floats, Floats, float], Floats]  # two ends and a position between them


class Engine(Protocol):
    """What runs a network for a session: `TinygradEngine` on any device, `CompiledLibrary` on the CPU.

    An engine that takes any size and needs no pieces has neither `image_size` nor `max_mem`.
    """

    @property
    def config(self) -> ModelConfig:
        """The sizes of the network."""

    @property
    def device(self) -> str:
        """The device that it runs on."""

    @property
    def batch(self) -> int:
        """Most images in one call; `run` takes more, and splits them."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images; None where any multiples of the network's stride do."""

    @property
    def max_mem(self) -> int | None:
        """Bytes for the layers, past which a session cuts images into pieces; None where it need not."""

    @property
    def methods(self) -> frozenset[str]:
        """Names of the methods that `run` takes."""

    def run(self, method: str, *arrays: Floats) -> list[Floats]:
        """Run a method of the network. Sides of images are multiples of the stride, values are in [0, 1].

        Args:
            method: `reconstruct`, `encode`, `decode`, `features` or `posterior`, as network/models.py has them; or
                `interpolate`, for a network whose `features` the engine lacks.
            arrays: the method's inputs, N rows each: images (N, H, W, C), codes, or all that `features` returned. For
                `interpolate` two images, (1, H, W, C) each, and evenly spaced positions from 0 to 1, (steps,).

        Returns:
            the method's results, N rows each; of `interpolate` the frames.

        Raises:
            UsageError: it has no such method.
            ImageError: the images do not have the engine's size.
            DeviceError: the device failed.
        """


class Session:
    """A network with the engine that runs it. Can be called from several threads, and in a process forked later.

    Attributes:
        engine: what runs the network.
        config: the sizes of the network.
        device: the device it runs on.
        metadata: the strings of its weight file (weight_file.py).
        batch: most images in one call of the engine.
        max_mem: bytes for the network's layers; `reconstruct` cuts larger images into pieces (tiles.py).
        width, height: of its images; None where the network takes any size.
        reopen: loads the same model once more, in another process too; None for a model that is in memory only.
    """

    def __init__(self, engine: Engine, metadata: Mapping[str, str] | None = None) -> None:
        self.engine, self.metadata = engine, dict(metadata or {})
        self.config, self.device = engine.config, engine.device
        self.batch, self.max_mem = engine.batch, engine.max_mem
        self.reopen: Callable[[], Session] | None = None
        self.height: int | None = None
        self.width: int | None = None
        if engine.image_size is not None:
            self.height, self.width = engine.image_size

    def __repr__(self) -> str:
        return f"<edgeae.Session {self.config.arch} {self.engine}>"

    def __reduce__(self) -> tuple[Callable[[], Session], tuple[()]]:
        if self.reopen is None:
            raise TypeError("a model that is in memory only cannot be sent to another process: load it there.")
        return self.reopen, ()

    # ---- what users call ---------------------------------------------------------------------------------------------

    def reconstruct(self, image: ImageLike) -> Any:
        """Run the whole network on an image.

        Args:
            image: a path, the bytes of a file, a PIL image, or an array (H, W, C) or (N, H, W, C), uint8 or floats in
                [0, 1]. A `vae` fits it to its own size; the others take any size, a compiled library its own.

        Returns:
            A PIL image for a path, bytes or PIL; for an array one of the same type and number of axes.

        Raises:
            ImageError: it cannot be read or has the wrong shape, type or range.
            DeviceError: the device failed.
        """
        x, give_back = self._take(image)
        max_mem = self.engine.max_mem if self.engine.image_size is None else None
        return give_back(self.run_floats(x) if max_mem is None else self._run_pieces(x, max_mem))

    def encode(self, image: ImageLike) -> Floats:
        """Encode an image, or an array of N images.

        Returns:
            float32, `(dims,)` for a `vae` (its μ), else (H/stride, W/stride, channels); for an array of N images with
            a first axis N.

        Raises:
            ImageError, DeviceError: as `reconstruct`.
        """
        x, _ = self._take(image)
        codes = self.engine.run("encode", self._pad(x))[0]
        return codes if isinstance(image, np.ndarray) and image.ndim == 4 else codes[0]

    def posterior(self, image: ImageLike) -> tuple[Floats, Floats]:
        """Return the Gaussian that a `vae` makes of an image.

        Returns:
            μ and log σ², each (dims,); or (N, dims) for an array of N images.

        Raises:
            UsageError: the network is no `vae`, or compiled.
            ImageError, DeviceError: as `reconstruct`.
        """
        if self.config.arch != "vae":
            raise UsageError(f"only a vae has a posterior; this model is {self.config.arch!r}.")
        x, _ = self._take(image)
        mu, logvar = self.engine.run("posterior", x)
        return (mu, logvar) if isinstance(image, np.ndarray) and image.ndim == 4 else (mu[0], logvar[0])

    def decode(self, code: Codes, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Decode a code, or N codes. A `residual` decodes without its skip connections, from the code alone.

        Args:
            code: of the shape that `encode` returns; finite numbers.
            dtype: uint8, or float32 for values in [0, 1].

        Returns:
            (H, W, C), or (N, H, W, C) for N codes.

        Raises:
            UsageError: another shape or `dtype`, NaN or infinity.
            DeviceError: the device failed.
        """
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise UsageError(f"an image cannot be decoded to {np.dtype(dtype)}; choose uint8 or float32.")
        with np.errstate(over="ignore"):  # it becomes infinity, which is an error below
            code = np.asarray(code, np.float32)
        size = self.engine.image_size
        expected = self.config.code_shape(*(size or (self.config.size, self.config.size)))
        single = code.ndim == len(expected)
        codes = code[None] if single else code
        fits = codes.shape[1:] == expected if size else codes.shape[-1:] == expected[-1:]
        if codes.ndim != len(expected) + 1 or not fits or 0 in codes.shape:
            raise UsageError(f"a code of shape {code.shape} does not fit; encode gives {expected} for one image.")
        if not np.isfinite(codes).all():
            raise UsageError("the code holds NaN or infinity.")
        images = self.engine.run("decode", codes)[0]
        images = images[0] if single else images
        return images if np.dtype(dtype) == np.float32 else to_uint8(images)

    def interpolate(self, *images: ImageLike, steps: int = 16, path: str = "linear") -> Any:
        """Walk evenly from each image's code to the next one's and decode every step.

        Args:
            images: two or more key images. All are fitted to the size of the first, or to the network's own.
            steps: frames from one key to the next, both included: the first and last are the reconstructions.
            path: `linear`, or `slerp` (Shoemake 1985): along the arc between the two codes, which suits Gaussian ones.

        Returns:
            k keys give (k − 1)·(steps − 1) + 1 frames: a list of PIL images for paths, bytes and PIL, else one array.

        Raises:
            UsageError: fewer than two images or steps, or an unknown path; more than two images or another path than
                `linear` for a compiled `residual`.
            ImageError, DeviceError: as `reconstruct`.
        """
        if len(images) < 2:
            raise UsageError("interpolation needs two or more images.")
        if steps < 2:
            raise UsageError(f"steps must be 2 or more, not {steps}.")
        walk = _PATHS.get(path)
        if walk is None:
            raise UsageError(f"unknown path {path!r}; choose one of {', '.join(_PATHS)}.")
        taken = [self._take(image) for image in images]
        if any(len(x) != 1 for x, _ in taken):
            raise ImageError("interpolation takes each key image by itself, not as a batch.")
        first, give_back = taken[0]
        height, width = first.shape[1:3]
        keys = [self._pad(self._fit(x, height, width)) for x, _ in taken]
        positions = np.linspace(0, 1, steps)
        if "features" in self.engine.methods:
            frames = self._decode_walk(keys, positions, walk)
        else:
            if len(images) != 2 or path != "linear":
                raise UsageError("a compiled residual walks from one image to another, and linearly.")
            frames = self.engine.run("interpolate", *keys, positions.astype(np.float32))[0]
        return give_back(frames[:, :height, :width], many=True)

    def sample(self, count: int = 16, seed: int = 0, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Decode codes drawn from the unit Gaussian, which only a `vae` can.

        Args:
            count: number of codes.
            seed: of NumPy's default generator.
            dtype: see `decode`.

        Returns:
            (count, size, size, C).

        Raises:
            UsageError: the network is no `vae`, or `count` is not between 1 and 65536.
        """
        if self.config.arch != "vae":
            raise UsageError(f"only a vae can be sampled from; this model is {self.config.arch!r}.")
        if not 1 <= count <= 65536:
            raise UsageError(f"the number of samples must be between 1 and 65536, not {count}.")
        codes = np.random.default_rng(seed).standard_normal((count, self.config.code)).astype(np.float32)
        return self.decode(codes, dtype)

    def run_floats(self, x: Floats) -> Floats:
        """Run the whole network on (N, H, W, C) float32 in [0, 1] without rounding: for metrics and checks."""
        return self.engine.run("reconstruct", self._pad(x))[0][:, : x.shape[1], : x.shape[2]]

    # ---- the network -------------------------------------------------------------------------------------------------

    def _run_pieces(self, x: Floats, max_mem: int) -> Floats:
        """Run the whole network on images of any size, (N, H, W, C), in pieces where they are too large."""
        height, width = x.shape[1:3]
        plan = tiles.plan(height, width, self.config, max_mem)
        if plan.pieces == 1:  # filled up to one of few shapes
            return self.run_floats(np.stack([tiles.mirror(image, *plan.shape) for image in x]))[:, :height, :width]

        def run(piece: Floats) -> Floats:
            restored: Floats = self.run_floats(piece[None])[0]
            return restored

        return np.stack([tiles.in_pieces(image, self.config, max_mem, run) for image in x])

    def _decode_walk(self, keys: list[Floats], positions: npt.NDArray[np.float64], walk: Walk) -> Floats:
        """Decode a walk through the features of the key images, (1, H, W, C) each."""
        # A residual's skip features walk with its code, so that both ends are the reconstructions.
        features = [[part[0] for part in self.engine.run("features", key)] for key in keys]
        frames = [features[0]]
        for a, b in pairwise(features):
            for t in positions[1:]:  # position 0 of a pair is the last frame of the pair before
                frames.append([walk(p, q, float(t)) for p, q in zip(a, b, strict=True)])
        [images] = self.engine.run("decode", *(np.stack(part) for part in zip(*frames, strict=True)))
        return images

    # ---- images in and out -------------------------------------------------------------------------------------------

    def _take(self, image: ImageLike) -> tuple[Floats, Callable[..., Any]]:
        """Return an image as (N, H, W, C) float32, and the function that turns results into the form it came in."""
        channels = self.config.in_channels
        if not isinstance(image, np.ndarray):
            x = to_float(read_image(image, channels))[None]

            def as_pil(y: Floats, many: bool = False) -> Any:
                pictures = [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in to_uint8(y)]
                return pictures if many else pictures[0]

            return self._fit_own(x), as_pil

        if image.ndim not in (3, 4) or image.shape[-1] != channels or 0 in image.shape:
            expected = f"(H, W, {channels}) or (N, H, W, {channels})"
            raise ImageError(f"an array of shape {image.shape} is not an image for this model; it takes {expected}.")
        x = to_float(image)

        def as_array(y: Floats, many: bool = False) -> Any:
            y = y if many or image.ndim == 4 else y[0]
            return to_uint8(y) if image.dtype == np.uint8 else y.astype(image.dtype, copy=False)

        return self._fit_own(x if image.ndim == 4 else x[None]), as_array

    def _fit_own(self, x: Floats) -> Floats:
        """Fit images to the one size of a `vae`."""
        return x if self.config.takes_any_size else self._fit(x, self.config.size, self.config.size)

    @staticmethod
    def _fit(x: Floats, height: int, width: int) -> Floats:
        if x.shape[1:3] == (height, width):
            return x
        return to_float(np.stack([fit(image, (width, height)) for image in x]))

    def _pad(self, x: Floats) -> Floats:
        """Mirror the lower and right edges until height and width are multiples of the stride."""
        stride = self.config.stride
        height, width = x.shape[1:3]
        return np.pad(x, ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0)), mode="symmetric")


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


_PATHS: dict[str, Walk] = {"linear": lerp, "slerp": slerp}
