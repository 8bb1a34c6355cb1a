"""Load a compiled library (`edgeae compile`) and call its C functions.

What it says about itself is read and checked first, without running any of its code (library_file.py).
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.engine.library_file import read_description
from edgeae.engine.shared_object import this_machine
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError, WeightsError

Floats: TypeAlias = npt.NDArray[np.float32]


class CompiledLibrary:
    """A network in a shared library: an `Engine` of inference/engine_protocol.py. Safe to use from several threads.

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
            WeightsError: the file is not one of our libraries, or damaged.
            DeviceError: it is for another machine.
        """
        description = read_description(path)
        if description.shared_object != (own := this_machine()):
            made_for = description.shared_object.machine
            raise DeviceError(f"{path} is for {made_for}, and this is {own.machine}: compile the model again here.")
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
        function = getattr(self._library, f"{self._name}_{name}", None)
        if function is None:
            raise WeightsError(f"{self._library._name} lacks the function {self._name}_{name}; compile it again.")
        function.argtypes = [ctypes.c_void_p, *types]
        message = getattr(self._library, f"{self._name}_error")
        message.restype = ctypes.c_char_p

        def call(*arguments: Any) -> None:
            if code := function(*arguments):
                raise EdgeaeError(f"lib{self._name}: {(message(code) or b'error').decode(errors='replace')}.")

        return call


_opened: weakref.WeakSet[CompiledLibrary] = weakref.WeakSet()


def _after_fork() -> None:
    for library in list(_opened):
        library.leave_handle()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
