"""Pack weights into fewer bits, and read them back.

Only weights (tensors named `….weight`) are quantized; biases stay float32. Let `out` be the size of a weight's last
axis, its output channels, and K the product of all others. Each scheme stores:

    none   NAME         float32, in the weight's own shape
    fp16   NAME         float16, in the weight's own shape
    int8   NAME         int8, in the weight's own shape: q in −127 … 127
           NAME.scale   float32 (out,): one scale per output channel; weight = q · scale
    int4   NAME         uint8 (⌈K/2⌉, out): the weight as a (K, out) matrix, two rows in a byte. Row 2·i is in the low
                        four bits, row 2·i+1 in the high four, each as q + 8 with q in −7 … 7. If K is odd, the missing
                        last row is 8, that is q = 0.
           NAME.scale   float16 (⌈K/32⌉, out): one scale for each 32 rows of a column; weight = q · scale

A device keeps the packed integers in memory. `dequantize` is an expression that becomes part of the kernel of the layer
that reads the weight, so the weights stay as small there as in the file.
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
    """An int8 weight on a device, with one scale per output channel.

    Attributes:
        values: int8, (…, out).
        scale: float32, (out,).
    """

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
    """A packed int4 weight on a device, with one scale for each 32 rows of a column.

    Attributes:
        values: uint8, (⌈K/2⌉, out).
        scale: float32, (⌈K/32⌉, out).
        unpacked_shape: shape of the weight, (…, out).
    """

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
        # Each byte twice, then its low and its high half: (pairs, out) → (pairs, 2, out) → (2·pairs, out).
        high = Tensor.arange(2, device=self.values.device).reshape(1, 2, 1) == 1
        packed = self.values.reshape(pairs, 1, out).expand(pairs, 2, out)
        nibbles = high.where(packed // 16, packed % 16).reshape(2 * pairs, out)[:rows]
        groups = self.scale.shape[0]
        # Each scale for 32 rows; both may be longer than the matrix, whose padding is cut off.
        scale = self.scale.reshape(groups, 1, out).expand(groups, GROUP, out).reshape(groups * GROUP, out)[:rows]
        return ((nibbles.cast(dtypes.float32) - 8) * scale.cast(dtypes.float32)).reshape(self.shape)


# ---- packing -----------------------------------------------------------------------------------------------------


def check_scheme(scheme: str) -> None:
    """Raise UsageError if the scheme is not one of SCHEMES."""
    if scheme not in SCHEMES:
        raise UsageError(f"unknown quantization {scheme!r}; choose one of {', '.join(SCHEMES)}.")


def pack(name: str, weight: Array, scheme: str) -> dict[str, Array]:
    """Return a float32 tensor as the tensors, by name, that a file holds for it.

    Args:
        name: its name; only `….weight` is quantized.
        weight: float32, (…, out).
        scheme: one of `SCHEMES`.
    """
    if scheme == "none" or not name.endswith("weight"):
        return {name: weight.astype(np.float32)}
    if scheme == "fp16":
        return {name: weight.astype(np.float16)}
    values, scale = (_int8 if scheme == "int8" else _int4)(weight)
    return {name: values, f"{name}.scale": scale}


def unpack(name: str, tensors: Mapping[str, Array], shape: tuple[int, ...], scheme: str) -> Array:
    """Return the float32 tensor that `pack` stored, as far as rounding left it.

    Args:
        name: name of the tensor.
        tensors: those of the file, by name.
        shape: shape of the unpacked tensor.
        scheme: the scheme that it was packed with.
    """
    stored = tensors[name]
    if scheme in ("none", "fp16") or not name.endswith("weight"):
        return stored.astype(np.float32)
    scale = tensors[f"{name}.scale"].astype(np.float32)
    if scheme == "int8":
        return stored.astype(np.float32) * scale
    rows = int(np.prod(shape[:-1]))
    nibbles = np.stack([stored & 15, stored >> 4], axis=1).reshape(-1, shape[-1])[:rows]
    return ((nibbles.astype(np.float32) - 8) * np.repeat(scale, GROUP, axis=0)[:rows]).reshape(shape)


def round_trip(name: str, weight: Array, scheme: str) -> Array:
    """Return a float32 tensor as it is after `pack` and `unpack`."""
    return unpack(name, pack(name, weight, scheme), weight.shape, scheme)


def packed_shapes(name: str, shape: tuple[int, ...], scheme: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type (NumPy's name) and shape of each tensor that a file holds for a tensor of this name and shape."""
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
    """Return a parameter as a layer holds it on a device, in the bits of its scheme.

    Args:
        name: name of the parameter.
        tensors: those of the file, by name.
        shape: shape of the parameter.
        scheme: the scheme of the file.
        device: tinygrad device.
        half: whether the device can read float16; if it cannot, fp16 weights are widened to float32.
    """
    stored = tensors[name]
    if name.endswith("weight") and scheme in ("int8", "int4"):
        scale = Tensor(tensors[f"{name}.scale"].astype(np.float32), device=device).realize()
        values = Tensor(stored, device=device).realize()
        return Int8Weight(values, scale) if scheme == "int8" else Int4Weight(values, scale, shape)
    return Tensor(stored if half else stored.astype(np.float32), device=device).realize()


def _int8(weight: Array) -> tuple[Array, Array]:
    largest = np.abs(weight).max(axis=tuple(range(weight.ndim - 1)))
    scale = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)  # avoids 0 / 0 in a channel of zeros
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale


def _int4(weight: Array) -> tuple[Array, Array]:
    matrix = weight.reshape(-1, weight.shape[-1])
    rows, out = matrix.shape
    groups = -(-rows // GROUP)
    padded = np.pad(matrix, ((0, groups * GROUP - rows), (0, 0))).reshape(groups, GROUP, out)
    largest = np.abs(padded).max(axis=1, keepdims=True)
    best, best_error = np.ones_like(largest), np.full_like(largest, np.inf)
    # Clipping the largest weights a little makes the steps finer for all others. Try 13 limits, from 70% of the largest
    # weight to all of it, and keep the one with the least squared error for each group.
    for share in np.linspace(0.7, 1.0, 13):
        scale = np.where(largest > 0, largest * share / 7, 1.0).astype(np.float16).astype(np.float32)
        scale = np.where(scale > 0, scale, 1.0)  # a scale below float16's smallest number became 0
        error = np.square(np.clip(np.rint(padded / scale), -7, 7) * scale - padded).sum(axis=1, keepdims=True)
        best, best_error = np.where(error < best_error, scale, best), np.minimum(error, best_error)
    values = np.clip(np.rint(padded / best), -7, 7).astype(np.int8).reshape(-1, out)[:rows] + 8
    if rows % 2:
        values = np.concatenate([values, np.full((1, out), 8, np.int8)])
    low, high = values[0::2].astype(np.uint8), values[1::2].astype(np.uint8)
    return low | (high << 4), best[:, 0].astype(np.float16)
