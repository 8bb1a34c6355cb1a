"""A loaded model: what `edgeae.load` returns, and the only way that commands and scripts run a network.

    ae = edgeae.load("faces-conv")
    restored = ae.reconstruct("photo.jpg")      # path or bytes or PIL in: PIL out; array in: array out

Every public method takes one image or many, converts, pads to the network's stride, runs one jitted graph for each
shape, and gives the result back in the form the image came in.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from tinygrad import Tensor, TinyJit

from edgeae.config import ModelConfig
from edgeae.errors import ImageError, UsageError
from edgeae.images import arrays as imaging
from edgeae.images.files.array_io import read_image
from edgeae.inference import tiles
from edgeae.network.models import Autoencoder
from edgeae.runtime.input_buffers import Inputs
from edgeae.runtime.jit import free_cached_buffers, was_just_captured
from edgeae.runtime.kernels.programs import compiled_together
from edgeae.runtime.tinygrad_lock import tinygrad_on

Floats: TypeAlias = npt.NDArray[np.float32]
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
Codes: TypeAlias = npt.NDArray[np.floating[Any]]

MAX_GRAPHS = 8  # compiled shapes kept for a model; the one unused for longest makes room


class Session:
    """A network on a device, ready to run. Can be called from several threads.

    Attributes:
        config: the sizes of the network.
        device: the tinygrad device it runs on.
        metadata: the strings of its weight file (weights.py), or those given.
        batch: the most images that go through in one call of the graph.
        max_mem: bytes for the network's layers; `reconstruct` cuts larger images into pieces (tiles.py).
    """

    def __init__(
        self,
        model: Autoencoder,
        config: ModelConfig,
        device: str,
        metadata: Mapping[str, str] | None = None,
        batch: int = 16,
        max_mem: int | None = None,
    ) -> None:
        if batch < 1:
            raise UsageError(f"batch must be 1 or more, not {batch}.")
        self.max_mem = tiles.default_memory() if max_mem is None else max_mem
        self.config, self.device, self.metadata, self.batch = config, device, dict(metadata or {}), batch
        self._model = model
        self._graphs: OrderedDict[tuple[Any, ...], tuple[TinyJit, Inputs, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<edgeae.Session {self.config.arch} {self.config.size}×{self.config.size} on {self.device}>"

    # ---- what users call ---------------------------------------------------------------------------------------------

    def reconstruct(self, image: ImageLike) -> Any:
        """Run the whole network.

        Args:
            image: a path, the bytes of a file, a PIL image, or an array (H, W, C) or (N, H, W, C), uint8 or float32
                in [0, 1]. A `vae` fits it to its own size; the others take any size.

        Returns:
            A PIL image for a path, bytes or PIL; an array of the given type and number of axes for an array.

        Raises:
            ImageError: it cannot be read or has the wrong shape, type or range.
            DeviceError: the device failed.
        """
        x, give_back = self._take(image)
        return give_back(self.run_floats(x) if self.config.arch == "vae" else self._in_pieces(x))

    def encode(self, image: ImageLike) -> Floats:
        """The code of an image: float32, `(dims,)` for a `vae` (its μ), else (H/stride, W/stride, channels); with a
        first axis N for an array of N images. Raises as `reconstruct` does."""
        x, _ = self._take(image)
        codes = self._call("encode", self._pad(x))[0]
        return codes if isinstance(image, np.ndarray) and image.ndim == 4 else codes[0]

    def posterior(self, image: ImageLike) -> tuple[Floats, Floats]:
        """μ and log σ² of the Gaussian that a `vae` makes of an image, each (dims,); or (N, dims) for an array of N.

        Raises as `reconstruct` does, and UsageError for another architecture.
        """
        if self.config.arch != "vae":
            raise UsageError(f"only a vae has a posterior; this model is {self.config.arch!r}.")
        x, _ = self._take(image)
        mu, logvar = self._call("posterior", x)
        return (mu, logvar) if isinstance(image, np.ndarray) and image.ndim == 4 else (mu[0], logvar[0])

    def decode(self, code: Codes, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """The image of a code: (H, W, C), or (N, H, W, C) for N codes, as uint8 or as float32 in [0, 1].

        A `residual` decodes without its skip connections: what the code alone can tell.

        Raises:
            UsageError: the code has not the shape that `encode` gives, or holds NaN or infinity; or another `dtype`.
        """
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise UsageError(f"an image cannot be decoded to {np.dtype(dtype)}; choose uint8 or float32.")
        with np.errstate(over="ignore"):  # becomes infinity, which is told below
            code = np.asarray(code, np.float32)
        expected = self.config.code_shape(self.config.size, self.config.size)
        single = code.ndim == len(expected)
        codes = code[None] if single else code
        fits = codes.shape[1:] == expected if self.config.arch == "vae" else codes.shape[-1:] == expected[-1:]
        if codes.ndim != len(expected) + 1 or not fits or 0 in codes.shape:
            raise UsageError(f"a code of shape {code.shape} does not fit; encode gives {expected} for one image.")
        if not np.isfinite(codes).all():
            raise UsageError("the code holds NaN or infinity.")
        images = self._call("decode", codes)[0]
        images = images[0] if single else images
        return images if np.dtype(dtype) == np.float32 else imaging.to_uint8(images)

    def interpolate(self, *images: ImageLike, steps: int = 16, path: str = "linear") -> Any:
        """Walk evenly from each image's code to the next one's and decode every step.

        Args:
            images: two or more key images. All are fitted to the size of the first (a `vae`: to its own).
            steps: frames from one key to the next, both included: the first and last are the reconstructions.
            path: `linear`, or `slerp` (Shoemake 1985): along the arc between the two codes, which suits Gaussian ones.

        Returns:
            k keys give (k − 1)·(steps − 1) + 1 frames: a list of PIL images for paths, bytes and PIL, else one array.
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
        keys = [self._fit(x, height, width) for x, _ in taken]
        # A residual's skip features walk with its code, so that both ends are the reconstructions.
        features = [[part[0] for part in self._call("features", self._pad(key))] for key in keys]
        frames = [features[0]]
        for a, b in pairwise(features):
            for t in np.linspace(0, 1, steps)[1:]:
                frames.append([walk(p, q, float(t)) for p, q in zip(a, b, strict=True)])
        decoded = self._call("decode", *(np.stack(part) for part in zip(*frames, strict=True)))[0]
        return give_back(decoded[:, :height, :width], many=True)

    def sample(self, count: int = 16, seed: int = 0, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """Images of `count` codes drawn from the unit Gaussian: (count, size, size, C). Only a `vae` can.

        Raises:
            UsageError: the model is not a `vae`.
        """
        if self.config.arch != "vae":
            raise UsageError(f"only a vae can be sampled from; this model is {self.config.arch!r}.")
        if not 1 <= count <= 65536:
            raise UsageError(f"the number of samples must be between 1 and 65536, not {count}.")
        codes = np.random.default_rng(seed).standard_normal((count, self.config.code)).astype(np.float32)
        return self.decode(codes, dtype)

    def run_floats(self, x: Floats) -> Floats:
        """`reconstruct` on (N, H, W, C) float32 in [0, 1], with no rounding: for metrics and checks."""
        return self._call("reconstruct", self._pad(x))[0][:, : x.shape[1], : x.shape[2]]

    def _in_pieces(self, x: Floats) -> Floats:
        """`run_floats` for images of any size."""
        height, width = x.shape[1:3]
        plan = tiles.plan(height, width, self.config, self.max_mem)
        if plan.pieces == 1:
            return self.run_floats(np.stack([tiles.mirrored(image, *plan.shape) for image in x]))[:, :height, :width]
        one = functools.partial(
            tiles.in_pieces, config=self.config, max_mem=self.max_mem, run=lambda piece: self.run_floats(piece[None])[0]
        )
        return np.stack([one(image) for image in x])

    # ---- images in and out -------------------------------------------------------------------------------------------

    def _take(self, image: ImageLike) -> tuple[Floats, Callable[..., Any]]:
        """An image as (N, H, W, C) float32, and the function that turns results into the form it came in."""
        channels = self.config.in_channels
        if not isinstance(image, np.ndarray):
            x = imaging.to_float(read_image(image, channels))[None]

            def as_pil(y: Floats, many: bool = False) -> Any:
                pictures = [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in imaging.to_uint8(y)]
                return pictures if many else pictures[0]

            return self._fit_own(x), as_pil

        if image.ndim not in (3, 4) or image.shape[-1] != channels or 0 in image.shape:
            wanted = f"(H, W, {channels}) or (N, H, W, {channels})"
            raise ImageError(f"an array of shape {image.shape} is not an image for this model; it takes {wanted}.")
        x = imaging.to_float(image)

        def as_array(y: Floats, many: bool = False) -> Any:
            y = y if many or image.ndim == 4 else y[0]
            return imaging.to_uint8(y) if image.dtype == np.uint8 else y.astype(image.dtype, copy=False)

        return self._fit_own(x if image.ndim == 4 else x[None]), as_array

    def _fit_own(self, x: Floats) -> Floats:
        return self._fit(x, self.config.size, self.config.size) if self.config.arch == "vae" else x

    @staticmethod
    def _fit(x: Floats, height: int, width: int) -> Floats:
        if x.shape[1:3] == (height, width):
            return x
        return imaging.to_float(np.stack([imaging.fit(image, (width, height)) for image in x]))

    def _pad(self, x: Floats) -> Floats:
        """Mirror the lower and right edges until height and width are multiples of the stride."""
        stride = self.config.stride
        height, width = x.shape[1:3]
        return np.pad(x, ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0)), mode="symmetric")

    # ---- the network -------------------------------------------------------------------------------------------------

    def _call(self, name: str, *arrays: Floats) -> list[Floats]:
        """Run a method of the network on arrays of N rows, in chunks of a few fixed sizes so that few graphs exist."""
        count = len(arrays[0])
        chunk = min(self.batch, 1 << (count - 1).bit_length(), self._fitting(arrays[0]))
        chunks = []
        for start in range(0, count, chunk):
            rows = [array[start : start + chunk] for array in arrays]
            missing = chunk - len(rows[0])
            padded = [np.concatenate([row, np.repeat(row[-1:], missing, axis=0)]) if missing else row for row in rows]
            chunks.append([result[: chunk - missing] for result in self._graph(name, *padded)])
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _graph(self, name: str, *arrays: Floats) -> list[Floats]:
        key = (name, *(array.shape for array in arrays))
        with tinygrad_on(self.device), Tensor.train(False):
            if key not in self._graphs:
                self._graphs[key] = self._new_graph(getattr(self._model, name), arrays)
            graph, inputs, _ = self._graphs.pop(key)
            results: list[Floats] = [tensor.numpy() for tensor in graph(*inputs(*arrays))]
            size = self._bytes(*arrays, *results)
            self._graphs[key] = graph, inputs, size  # a graph that failed is not kept
            if was_just_captured(graph):
                free_cached_buffers(self.device)
            self._make_room()
            return results

    def _fitting(self, array: Floats) -> int:
        """How many images of this array fit into the memory at once, as a power of two."""
        return 1 << (max(1, int(self.max_mem / 2 / self._bytes(array[:1]))).bit_length() - 1)

    def _bytes(self, *arrays: Floats) -> float:
        """Roughly what the network's layers take for these images; of codes it tells nothing."""
        pixels = max((np.prod(array.shape[:3]) for array in arrays if array.ndim == 4), default=1)
        return float(pixels) * tiles.bytes_per_pixel(self.config)

    def _make_room(self) -> None:
        """Forget the graphs that were unused for longest, and let go of the memory that tinygrad holds for others."""
        count = len(self._graphs)
        while len(self._graphs) > 1 and (
            len(self._graphs) > MAX_GRAPHS or sum(size for *_, size in self._graphs.values()) > 0.6 * self.max_mem
        ):
            self._graphs.popitem(last=False)
        if len(self._graphs) < count:
            free_cached_buffers(self.device)

    def _new_graph(self, function: Callable[..., Any], arrays: Sequence[Floats]) -> tuple[TinyJit, Inputs, float]:
        with compiled_together():
            function(*(Tensor.empty(*array.shape, device=self.device) for array in arrays))
        return TinyJit(_realized(function)), Inputs([self.device]), 0.0


def _realized(function: Callable[..., Tensor | Sequence[Tensor]]) -> Callable[..., list[Tensor]]:
    def run(*inputs: Tensor) -> list[Tensor]:
        result = function(*inputs)
        results = [result] if isinstance(result, Tensor) else list(result)
        Tensor.realize(*results)
        return results

    return run


def slerp(a: Floats, b: Floats, t: float) -> Floats:
    """Spherical interpolation from `a` (t = 0) to `b` (t = 1), Shoemake 1985; linear where they are (anti)parallel."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(np.vdot(a, b)) / norm if norm > 0 else 1.0
    if abs(cosine) > 0.9999:
        return lerp(a, b, t)
    angle = np.arccos(cosine)
    mixed: Floats = ((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)).astype(np.float32)
    return mixed


def lerp(a: Floats, b: Floats, t: float) -> Floats:
    """Linear interpolation from `a` (t = 0) to `b` (t = 1), exact at both ends."""
    mixed: Floats = ((1 - t) * a + t * b).astype(np.float32)
    return mixed


_PATHS: dict[str, Callable[[Floats, Floats, float], Floats]] = {"linear": lerp, "slerp": slerp}
