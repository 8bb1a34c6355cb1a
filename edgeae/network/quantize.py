"""Weights in fewer bits: how they are packed, how a layer reads them, and what they lose.

Only weights (tensors named `….weight`) are quantized; biases stay float32. With K the product of every axis but the
last and `out` the last, each scheme stores

    none   NAME         float32, the weight's own shape
    fp16   NAME         float16, the weight's own shape
    int8   NAME         int8, the weight's own shape
           NAME.scale   float32 (out,): weight = value · scale, value in −127 … 127
    int4   NAME         uint8 (⌈K/2⌉, out): row 2·i of the (K, out) matrix in the low four bits, row 2·i+1 in the high
                        four, each stored as value + 8, value in −7 … 7; an odd last row is padded with 8
           NAME.scale   float16 (⌈K/32⌉, out): one scale for 32 rows of a column: weight = value · scale

On the device the packed integers are what stays in memory: `dequantize` is an expression, which becomes part of the
kernel of the layer that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, dtypes

from edgeae.errors import UsageError
from edgeae.runtime.kernels.operands import PackedWeight, Weight

SCHEMES = ("none", "fp16", "int8", "int4")
GROUP = 32  # rows of a column that share an int4 scale

Array = npt.NDArray[Any]


@dataclass
class Int8Weight(PackedWeight):
    """An int8 weight on a device, with a scale for each output channel."""

    bits: ClassVar[int] = 8
    values: Tensor
    scale: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self) -> Tensor:
        return self.values.cast(dtypes.float32) * self.scale


@dataclass
class Int4Weight(PackedWeight):
    """A packed int4 weight on a device, with a scale for each group of 32 rows of a column."""

    bits: ClassVar[int] = 4
    values: Tensor
    scale: Tensor
    unpacked_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.unpacked_shape

    def dequantize(self) -> Tensor:
        out = self.shape[-1]
        rows = int(np.prod(self.shape[:-1]))
        pairs = self.values.shape[0]
        high = Tensor.arange(2, device=self.values.device).reshape(1, 2, 1) == 1
        packed = self.values.reshape(pairs, 1, out).expand(pairs, 2, out)
        nibbles = high.where(packed // 16, packed % 16).reshape(2 * pairs, out)[:rows]
        groups = self.scale.shape[0]
        scale = self.scale.reshape(groups, 1, out).expand(groups, GROUP, out).reshape(groups * GROUP, out)[:rows]
        return ((nibbles.cast(dtypes.float32) - 8) * scale.cast(dtypes.float32)).reshape(self.shape)


# ---- packing -----------------------------------------------------------------------------------------------------


def check_scheme(scheme: str) -> None:
    """Raises UsageError for what is none of SCHEMES."""
    if scheme not in SCHEMES:
        raise UsageError(f"unknown quantization {scheme!r}; choose one of {', '.join(SCHEMES)}.")


def pack(name: str, weight: Array, scheme: str) -> dict[str, Array]:
    """One float32 tensor as the tensors that a file in `scheme` holds for it.

    Args:
        name: its name; anything but `….weight` is kept as it is.
        weight: float32, the last axis is the output channel.
        scheme: one of `SCHEMES`.
    """
    if scheme == "none" or not name.endswith("weight"):
        return {name: weight.astype(np.float32)}
    if scheme == "fp16":
        return {name: weight.astype(np.float16)}
    values, scale = (_int8 if scheme == "int8" else _int4)(weight)
    return {name: values, f"{name}.scale": scale}


def unpack(name: str, tensors: Mapping[str, Array], shape: tuple[int, ...], scheme: str) -> Array:
    """The float32 tensor that `tensors` hold under `name`: the inverse of `pack`, but for what rounding lost."""
    stored = tensors[name]
    if scheme in ("none", "fp16") or not name.endswith("weight"):
        return stored.astype(np.float32)
    scale = tensors[f"{name}.scale"].astype(np.float32)
    if scheme == "int8":
        return stored.astype(np.float32) * scale
    rows = int(np.prod(shape[:-1]))
    nibbles = np.stack([stored & 15, stored >> 4], axis=1).reshape(-1, shape[-1])[:rows]
    return ((nibbles.astype(np.float32) - 8) * np.repeat(scale, GROUP, axis=0)[:rows]).reshape(shape)


def rounded(name: str, weight: Array, scheme: str) -> Array:
    """What a float32 tensor is after `pack` and `unpack`."""
    return unpack(name, pack(name, weight, scheme), weight.shape, scheme)


def packed_shapes(name: str, shape: tuple[int, ...], scheme: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each tensor that a file in `scheme` holds for `name`: its type, in NumPy's spelling, and its shape."""
    if not name.endswith("weight") or scheme == "none":
        return {name: ("float32", shape)}
    if scheme == "fp16":
        return {name: ("float16", shape)}
    if scheme == "int8":
        return {name: ("int8", shape), f"{name}.scale": ("float32", shape[-1:])}
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    return {name: ("uint8", (-(-rows // 2), shape[-1])), f"{name}.scale": ("float16", (-(-rows // GROUP), shape[-1]))}


def to_device(
    name: str, tensors: Mapping[str, Array], shape: tuple[int, ...], scheme: str, device: str, half: bool
) -> Weight:
    """The weight as a layer holds it on `device`, still in the bits of its scheme.

    `half` says whether the device can read float16; where it cannot, fp16 weights are widened to float32.
    """
    stored = tensors[name]
    if name.endswith("weight") and scheme in ("int8", "int4"):
        scale = Tensor(tensors[f"{name}.scale"].astype(np.float32), device=device).realize()
        values = Tensor(stored, device=device).realize()
        return Int8Weight(values, scale) if scheme == "int8" else Int4Weight(values, scale, shape)
    return Tensor(stored if half else stored.astype(np.float32), device=device).realize()


def _int8(weight: Array) -> tuple[Array, Array]:
    largest = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)))
    scale = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)  # an all-zero channel keeps a usable scale
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def _int4(weight: Array) -> tuple[Array, Array]:
    matrix = weight.reshape(-1, weight.shape[-1])
    rows, out = matrix.shape
    groups = -(-rows // GROUP)
    padded = np.pad(matrix, ((0, groups * GROUP - rows), (0, 0))).reshape(groups, GROUP, out)
    largest = np.abs(padded).max(axis=1, keepdims=True)
    best, best_error = np.ones_like(largest), np.full_like(largest, np.inf)
    # Clipping the largest weights a little makes the steps finer for all others: take the least square error.
    for share in np.linspace(0.7, 1.0, 13):
        scale = np.where(largest > 0, largest * share / 7, 1.0).astype(np.float16).astype(np.float32)
        scale = np.where(scale > 0, scale, 1.0)
        error = np.square(np.clip(np.rint(padded / scale), -7, 7) * scale - padded).sum(axis=1, keepdims=True)
        best, best_error = np.where(error < best_error, scale, best), np.minimum(error, best_error)
    values = np.clip(np.rint(padded / best), -7, 7).astype(np.int8).reshape(-1, out)[:rows] + 8
    if rows % 2:
        values = np.concatenate([values, np.full((1, out), 8, np.int8)])
    low, high = values[0::2].astype(np.uint8), values[1::2].astype(np.uint8)
    return low | (high << 4), best[:, 0].astype(np.float16)
