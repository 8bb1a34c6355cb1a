"""Tensors that are filled anew for each call of a jitted graph: what an input costs is then one copy of its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor


class Inputs:
    """The inputs of one graph on its devices.

    Making a tensor costs tinygrad about 1 ms, and fresh memory 0.5 ms a megabyte; a copy into a tensor that is there,
    0.1 ms a megabyte. Every call overwrites what the last one gave.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)
        self._tensors: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def __call__(self, *arrays: npt.NDArray[Any]) -> list[Tensor]:
        """float32 tensors on the device with the arrays' values; on several devices the first axis is divided among
        them, but for arrays of one axis, which each device has whole."""
        return [self._put(i, np.ascontiguousarray(array, np.float32)) for i, array in enumerate(arrays)]

    def _put(self, i: int, array: npt.NDArray[np.float32]) -> Tensor:
        if len(self._devices) > 1:
            tensor = Tensor(array, device=self._devices[0])
            return tensor.shard(self._devices, 0 if array.ndim > 1 else None).realize()
        tensor = self._tensors.get((i, array.shape))
        if tensor is None:
            tensor = self._tensors[i, array.shape] = Tensor(array, device=self._devices[0]).clone().realize()
        else:
            tensor.uop.base.buffer.copyin(array.data)
        return tensor
