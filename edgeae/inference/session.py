"""A loaded model, which `edgeae.load` returns: the one way in which commands and scripts run a network.

    ae = edgeae.load("faces-conv")
    restored = ae.reconstruct("photo.jpg")      # path or bytes or PIL in: PIL out; array in: array out

Each public method takes one image or many, converts them to floats, pads them to the network's stride, has the engine
run the network, and returns the result in the form of its input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.config import task_of
from edgeae.errors import ImageError, UsageError
from edgeae.images.arrays import AnyImage, Rows, fit, to_float, to_uint8
from edgeae.images.files.array_io import read_image
from edgeae.images.files.reader import Photo
from edgeae.inference import tiles
from edgeae.inference.engine_protocol import Engine
from edgeae.inference.masks import MaskSource
from edgeae.inference.picture import ArrayPicture, Picture, to_pil
from edgeae.inference.restoration import Job, open_strips, restore_fitted, restore_strips
from edgeae.inference.walk import PATHS, decode_walk, decode_walk_in_pieces, plan_walk

Floats: TypeAlias = npt.NDArray[np.float32]
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
Codes: TypeAlias = npt.NDArray[np.floating[Any]]


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

    def reconstruct(self, image: ImageLike, *, mask: MaskSource | None = None, strength: float = 1.0) -> Any:
        """Run the whole network on an image, and mix its result with the image.

        Args:
            image: a path, the bytes of a file, a PIL image, or an array (H, W, C) or (N, H, W, C), uint8 or floats in
                [0, 1]. A `vae` fits it to its own size; the others take any size, a compiled library its own.
            mask: of the image's size: only what it marks as damaged is replaced, the rest stays bit for bit. An image
                as `edgeae run --mask` takes it, or an array as `masks.Mask` does; one for all N images.
            strength: 0 keeps the image, 1 takes the network's result, between them a mixture.

        Returns:
            A PIL image for a path, bytes or PIL, upright and of the same mode, with its transparency. What PIL cannot
            hold comes back as RGB or L: palettes, single bits, 16 bits of color; a network that makes or removes color
            has modes of its own. For an array one of the same type and number of axes.

        Raises:
            ImageError: the image or the mask cannot be read or has the wrong shape, type or range.
            UsageError: `strength` is out of range, or a `vae` has a mask.
            DeviceError: the device failed.
        """
        if mask is not None and not self.config.takes_any_size:
            raise UsageError("`mask` needs a conv or residual model: a vae changes the whole picture.")
        if not isinstance(image, np.ndarray):
            with Photo(image) as photo:
                return to_pil(self._restore(photo, mask, strength), photo, image)
        x, give_back = self._take(image)
        if mask is not None or strength != 1:
            return give_back(self._restore_arrays(image, x, mask, strength))
        return give_back(self.run_floats(x) if self._piece_memory is None else self._run_pieces(x, self._piece_memory))

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
            UsageError: fewer than two images or steps, or an unknown path; another path than `linear` for images that
                are cut into pieces; more than two images or another path than `linear` for a compiled `residual`.
            ImageError, DeviceError: as `reconstruct`.
        """
        if len(images) < 2:
            raise UsageError("interpolation needs two or more images.")
        if steps < 2:
            raise UsageError(f"steps must be 2 or more, not {steps}.")
        if path not in PATHS:
            raise UsageError(f"unknown path {path!r}; choose one of {', '.join(PATHS)}.")
        taken = [self._take(image) for image in images]
        if any(len(x) != 1 for x, _ in taken):
            raise ImageError("interpolation takes each key image by itself, not as a batch.")
        first, give_back = taken[0]
        height, width = first.shape[1:3]
        keys = [self._pad(self._fit(x, height, width)) for x, _ in taken]
        positions = np.linspace(0, 1, steps)
        if "features" in self.engine.methods:
            plan = plan_walk(self.config, self._piece_memory, height, width, len(keys), steps)
            if plan is None:
                frames = decode_walk(self.engine.run, keys, positions, PATHS[path])
            elif path == "linear":
                is_float = isinstance(images[0], np.ndarray) and images[0].dtype != np.uint8
                convert = (lambda rows: rows) if is_float else to_uint8
                frames = decode_walk_in_pieces(self.engine.run, keys, positions, *plan, convert)
            else:
                raise UsageError(
                    f"images of {width}×{height} pixels go through the network in pieces, where only a linear `path` "
                    "leads: choose that, a larger `max_mem`, or smaller images."
                )
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

    @property
    def _piece_memory(self) -> int | None:
        """Bytes past which images are cut into pieces; None where the engine takes them whole."""
        return self.engine.max_mem if self.engine.image_size is None else None

    def _restore(self, picture: Picture, mask: MaskSource | None, strength: float) -> Rows:
        """Restore a picture as `edgeae run` does; return its rows as they are stored, (H, W, K)."""
        job = Job(
            picture,
            self.config,
            task_of(self.metadata),
            lambda piece: self.run_floats(piece[None])[0],
            strength,
            self._piece_memory,
        )
        if not self.config.takes_any_size:
            return restore_fitted(job)[0]
        with ExitStack() as stack:
            return np.concatenate([rows for _, rows in restore_strips(job, open_strips(job, mask, stack))])

    def _restore_arrays(self, image: AnyImage, x: Floats, mask: MaskSource | None, strength: float) -> Rows:
        """Restore arrays one by one with a mask or a strength, (N, H, W, C); what does not change stays bit for bit.

        Args:
            image: the array as it was given.
            x: the same as (N, H, W, C) floats, fitted to the size of a `vae`.
            mask, strength: as in `reconstruct`.
        """
        mode = "L" if self.config.in_channels == 1 else "RGB"
        given = image.reshape(-1, *image.shape[-3:])
        if given.shape != x.shape:
            given = x
        exact = given if given.dtype == np.uint8 else x
        restored = np.stack([self._restore(ArrayPicture(array, mode), mask, strength) for array in exact])
        # float32 cannot hold all values of float64: those that did not change are taken from the array itself.
        return restored if exact is given or restored.shape != x.shape else np.where(restored == x, given, restored)

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
