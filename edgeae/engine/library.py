"""Load a compiled library (`edgeae compile`) and call its C functions.

A library holds a description of itself between two zero bytes, which is read without running any of its code.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError, WeightsError
from edgeae.network.describe import describe_model

Floats: TypeAlias = npt.NDArray[np.float32]

_MARK = re.compile(rb"edgeae library ([A-Za-z_]\w*) 1\0(\{[^\0]*\})\0")  # written by head.c


class CompiledLibrary:
    """A network in a shared library: an `Engine` of inference/session.py. Safe to use from several threads.

    It takes images of the one size that it was compiled for. It has no `posterior`; and no `features` of a `residual`,
    whose `interpolate` it has instead.

    Attributes:
        config: the sizes of the network.
        metadata: the strings of the weight file that it was compiled from.
        device: always `CPU`.
        batch: images that it works on together.
        image_size: height and width of its images.
        max_mem: None, since its memory is laid out when it is compiled.
        methods: names of the methods that `run` takes.
    """

    device = "CPU"
    max_mem = None

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """
        Args:
            path: the library. Loading it runs its code: only load what you trust.
            threads: most threads to use; None is as many as it was compiled for.

        Raises:
            WeightsError: the file is not one of our libraries.
            DeviceError: it is for another machine.
        """
        description = _read_description(path)
        self.config, self.metadata, self.batch = description.config, description.metadata, description.batch
        self.image_size = description.height, description.width
        self.methods = frozenset({"reconstruct", "encode", "decode"}) | (
            {"interpolate"} if self.config.arch == "residual" else {"features"}
        )
        self._name = description.name
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise DeviceError(f"{path} cannot be loaded here: {str(error).splitlines()[0]}.") from None
        self._threads = threads
        self._lock, self._handle = threading.Lock(), ctypes.c_void_p()  # a handle serves one thread at a time
        self._create_handle()
        _opened.add(self)
        self._run = self._method("run_float", pointers=4)
        self._encode = self._method("encode_float", pointers=3)
        self._decode = self._method("decode_float", pointers=3)
        self._interpolate = self._method("interpolate", pointers=5)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            getattr(self._library, f"{self._name}_destroy")(self._handle)

    def _create_handle(self) -> None:
        self._function("create", ctypes.c_int)(ctypes.byref(self._handle), self._threads or 0)

    def leave_handle(self) -> None:
        """Forget the handle in a forked process, for good: its threads are gone, and one may have been at work in it.

        Libraries made by edgeae 0.1.0 would wait for these threads.
        """
        self._lock, self._handle = threading.Lock(), ctypes.c_void_p()

    def __str__(self) -> str:
        height, width = self.image_size
        return f"{width}×{height}, compiled"

    def run(self, method: str, *arrays: Floats) -> list[Floats]:
        """Run a method of the network on arrays of N rows each.

        Raises:
            UsageError: the library has no such method.
            ImageError: the images have another size than the library's.
            EdgeaeError: the library reports an error.
        """
        if method not in self.methods:
            raise UsageError(f"a compiled library has no {method}; load the weight file for that.")
        x = np.ascontiguousarray(arrays[0], np.float32)
        height, width = self.image_size
        if method != "decode" and x.shape[1:3] != (height, width):
            raise ImageError(f"an image of {x.shape[2]}×{x.shape[1]}: this library was compiled for {width}×{height}.")
        with self._lock:
            if not self._handle:
                self._create_handle()
            # A stride of 0 stands for rows without gaps.
            if method == "interpolate":
                return [self._frames(x, *arrays[1:])]
            if method in ("encode", "features"):
                codes = np.empty((len(x), *self.config.code_shape(height, width)), np.float32)
                self._encode(x.ctypes.data, 0, codes.ctypes.data, len(x))
                return [codes]
            images = np.empty((len(x), height, width, self.config.out_channels), np.float32)
            if method == "decode":
                self._decode(x.ctypes.data, images.ctypes.data, 0, len(x))
            else:
                self._run(x.ctypes.data, 0, images.ctypes.data, 0, len(x))
            return [images]

    def _frames(self, first: Floats, last: Floats, positions: Floats) -> Floats:
        """Return the frames of a linear walk: the C function takes and gives 8 bits, and spaces the frames evenly."""
        ends = [np.ascontiguousarray(np.rint(image * 255).astype(np.uint8)) for image in (first, last)]
        frames = np.empty((len(positions), *self.image_size, self.config.out_channels), np.uint8)
        self._interpolate(ends[0].ctypes.data, ends[1].ctypes.data, 0, frames.ctypes.data, 0, len(frames))
        return (frames / np.float32(255)).astype(np.float32)

    def _method(self, name: str, pointers: int) -> Callable[..., None]:
        """Bind a function of the handle, of `pointers` pointers or strides, and of a count."""
        function = self._function(name, *[ctypes.c_void_p] * pointers, ctypes.c_int)
        return lambda *arguments: function(self._handle, *arguments)

    def _function(self, name: str, *types: Any) -> Callable[..., None]:
        """Bind a function whose first argument is a pointer and whose result is an error code."""
        function = getattr(self._library, f"{self._name}_{name}")
        function.argtypes = [ctypes.c_void_p, *types]
        message = getattr(self._library, f"{self._name}_error")
        message.restype = ctypes.c_char_p

        def call(*arguments: Any) -> None:
            if code := function(*arguments):
                raise EdgeaeError(f"lib{self._name}: {message(code).decode()}.")

        return call


_opened: weakref.WeakSet[CompiledLibrary] = weakref.WeakSet()


def _after_fork() -> None:
    for library in list(_opened):
        library.leave_handle()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class _Description:
    """What a library says about itself.

    Attributes:
        name: prefix of its C functions.
        metadata: the strings of its weight file.
        config: the sizes of the network.
        size_bytes: size of the library.
        width, height, batch, threads: what it was compiled for.
    """

    name: str
    metadata: dict[str, str]
    config: ModelConfig
    size_bytes: int
    width: int
    height: int
    batch: int
    threads: int


def _read_description(path: Path) -> _Description:
    """Find the description in a library's bytes. Raises WeightsError where there is none, or a damaged one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from None
    match = _MARK.search(data)
    if match is None:
        raise WeightsError(f"{path} is no library that edgeae compiled.")
    try:
        values = dict(json.loads(match[2]))
        metadata = {key: value for key, value in values.items() if isinstance(value, str)}
        config = ModelConfig.from_json(metadata.get("config", ""), str(path))
        numbers = {name: int(values["library"][name]) for name in ("width", "height", "batch", "threads")}
    except (KeyError, ValueError, TypeError, RecursionError):
        raise WeightsError(f"{path}: the library's description is damaged; compile it again.") from None
    return _Description(match[1].decode(), metadata, config, len(data), **numbers)


def describe_library(path: Path) -> dict[str, Any]:
    """Return what `edgeae info` prints about a library. Raises WeightsError."""
    description = _read_description(path)
    width, height = description.width, description.height
    return describe_model(path, description.size_bytes, description.config, description.metadata, width, height) | {
        "any_size": f"no, compiled for {width}×{height}",
        "batch": description.batch,
        "threads": description.threads,
    }
