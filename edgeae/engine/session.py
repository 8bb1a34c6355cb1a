"""A compiled library as a session: the methods of every loaded model, for what the library holds."""

from __future__ import annotations

import ctypes
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError, WeightsError
from edgeae.inference import tiles
from edgeae.inference.session import Codes, Floats, ImageLike, Session
from edgeae.network.describe import describe_model

_MARK = re.compile(rb"edgeae library ([A-Za-z_]\w*) 1\0(\{[^\0]*\})\0")


class LibrarySession(Session):
    """What `edgeae.load("libNAME.so")` gives.

    Its images have the size that the library was compiled for; it has no `posterior`, and a `residual` walks linearly
    between two images, in 8 bits.

    Attributes:
        width, height: of its images.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """
        Args:
            path: of the library. Loading it runs its code: only load what you trust.
            threads: the most to use; None is as many as it was compiled for.
        """
        found = _read(path)
        self._name, self.metadata, self.config = found.name, found.metadata, found.config
        self.width, self.height, self.batch = found.width, found.height, found.batch
        self.device, self.max_mem = "CPU", tiles.default_memory()
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise DeviceError(f"{path} cannot be loaded here: {str(error).splitlines()[0]}.") from None
        self._lock, self._handle = threading.Lock(), ctypes.c_void_p()
        self._function("create", ctypes.c_int)(ctypes.byref(self._handle), threads or 0)
        self._run = self._bound("run_float", 4)
        self._encode = self._bound("encode_float", 3)
        self._decode = self._bound("decode_float", 3)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            getattr(self._library, f"{self._name}_destroy")(self._handle)

    def __repr__(self) -> str:
        return f"<edgeae.Session {self.config.arch} {self.width}×{self.height}, compiled>"

    def decode(self, code: Codes, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """As `Session.decode`, of codes of the library's size."""
        wanted = self.config.code_shape(self.height, self.width)
        shape = np.shape(code)
        if shape[-len(wanted) :] != wanted:
            raise UsageError(f"a code of shape {shape} does not fit; encode gives {wanted} for one image.")
        return super().decode(code, dtype)

    def interpolate(self, *images: ImageLike, steps: int = 16, path: str = "linear") -> Any:
        """As `Session.interpolate`; of a `residual`, from one image to another, `linear`."""
        if self.config.arch != "residual":
            return super().interpolate(*images, steps=steps, path=path)
        if len(images) != 2 or path != "linear":
            raise UsageError("a compiled residual walks from one image to another, and linearly.")
        if steps < 2:
            raise UsageError(f"steps must be 2 or more, not {steps}.")
        (source, give_back), (target, _) = (self._take(image) for image in images)
        ends = [np.ascontiguousarray(np.rint(self._checked(x) * 255).astype(np.uint8)) for x in (source, target)]
        frames = np.empty((steps, self.height, self.width, self.config.out_channels), np.uint8)
        with self._lock:
            walk = self._bound("interpolate", 5)
            walk(ends[0].ctypes.data, ends[1].ctypes.data, 0, frames.ctypes.data, 0, steps)
        return give_back((frames / np.float32(255)).astype(np.float32), many=True)

    # ---- the network -------------------------------------------------------------------------------------------------

    def _in_pieces(self, x: Floats) -> Floats:
        return self.run_floats(x)

    def _call(self, name: str, *arrays: Floats) -> list[Floats]:
        given = np.ascontiguousarray(arrays[0], np.float32)
        count, shape = len(given), (self.height, self.width, self.config.out_channels)
        with self._lock:
            if name == "decode" and len(arrays) == 1:
                images = np.empty((count, *shape), np.float32)
                self._decode(given.ctypes.data, images.ctypes.data, 0, count)
                return [images]
            if name in ("encode", "features"):
                codes = np.empty((count, *self.config.code_shape(self.height, self.width)), np.float32)
                self._encode(self._checked(given).ctypes.data, 0, codes.ctypes.data, count)
                return [codes]
            if name == "reconstruct":
                images = np.empty((count, *shape), np.float32)
                self._run(self._checked(given).ctypes.data, 0, images.ctypes.data, 0, count)
                return [images]
        raise UsageError(f"a compiled library has no {name}; load the weight file for that.")

    def _checked(self, x: Floats) -> Floats:
        if x.shape[1:3] != (self.height, self.width):
            raise ImageError(
                f"an image of {x.shape[2]}×{x.shape[1]}: this library was compiled for {self.width}×{self.height}."
            )
        return x

    def _bound(self, name: str, pointers: int) -> Callable[..., None]:
        """A function of the handle, pointers or strides, and a count."""
        function = self._function(name, *[ctypes.c_void_p] * pointers, ctypes.c_int)
        return lambda *arguments: function(self._handle, *arguments)

    def _function(self, name: str, *types: Any) -> Callable[..., None]:
        function = getattr(self._library, f"{self._name}_{name}")
        function.argtypes = [ctypes.c_void_p, *types]
        words = getattr(self._library, f"{self._name}_error")
        words.restype = ctypes.c_char_p

        def call(*arguments: Any) -> None:
            if code := function(*arguments):
                raise EdgeaeError(f"lib{self._name}: {words(code).decode()}.")

        return call


@dataclass(frozen=True)
class _Description:
    """What a library tells of itself: the name of its functions, the weight file's metadata, and what it was compiled
    for."""

    name: str
    metadata: dict[str, str]
    config: ModelConfig
    size_bytes: int
    width: int
    height: int
    batch: int
    threads: int


def _read(path: Path) -> _Description:
    """From a library's bytes, without running its code. Raises WeightsError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from None
    found = _MARK.search(data)
    if found is None:
        raise WeightsError(f"{path} is no library that edgeae compiled.")
    try:
        told = dict(json.loads(found[2]))
        metadata = {key: value for key, value in told.items() if isinstance(value, str)}
        config = ModelConfig.from_json(metadata.get("config", ""), str(path))
        numbers = {name: int(told["library"][name]) for name in ("width", "height", "batch", "threads")}
    except (KeyError, ValueError, TypeError, RecursionError):
        raise WeightsError(f"{path}: the library's description is damaged; compile it again.") from None
    return _Description(found[1].decode(), metadata, config, len(data), **numbers)


def describe_library(path: Path) -> dict[str, Any]:
    """What `edgeae info` tells of a library. Raises WeightsError."""
    found = _read(path)
    size = f"{found.width}×{found.height}"
    return describe_model(path, found.size_bytes, found.config, found.metadata, found.width, found.height) | {
        "any_size": f"no, compiled for {size}",
        "batch": found.batch,
        "threads": found.threads,
    }


def load_library(path: Path, device: str | None, threads: int | None) -> LibrarySession:
    """What `edgeae.load` gives for a library.

    Raises:
        WeightsError: it is none of ours.
        UsageError: a device other than the CPU was asked for.
        DeviceError: it is for another machine.
    """
    if device is not None and device.strip().upper() not in ("", "AUTO", "CPU"):
        raise UsageError(f"a compiled library runs on the CPU, not on {device}.")
    return LibrarySession(path, threads)
