"""Write the weights of a compiled network as C: their bytes, and the functions that make floats of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.network.quantize import GROUP

ALIGNMENT = 64  # bytes: of each tensor, and of the values in memory

# The body of `number`: weight (row, c) of a matrix of `columns`, as network/quantize.py stores it for each scheme.
_NUMBERS = {
    "none": "return ((const float *)from)[row * columns + c];",
    "fp16": "return half(from + 2 * (row * columns + c));",
    "int8": "return (float)((const signed char *)from)[row * columns + c] * ((const float *)scale)[c];",
    "int4": f"""const int two = from[row / 2 * columns + c], value = (two >> row % 2 * 4 & 15) - 8;
    return (float)value * half(scale + 2 * (row / {GROUP} * columns + c));""",
}
_HALF = """// A half float in float.
static float half(const unsigned char *at)
{
    const uint32_t h = (uint32_t)(at[0] | at[1] << 8), special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    union { uint32_t bits; float number; } f = {.bits = (h & 0x7fff) << 13};
    f.number *= 0x1p112f; // exact: the exponent grows from 5 bits to 8
    f.bits |= (h & 0x8000) << 16 | special;
    return f.number;
}
"""
_WIDEN = """// A stored weight.
static inline float number(const unsigned char *from, const unsigned char *scale, long row, long c, long columns)
{
    @NUMBER@
}

// rows x columns stored weights to floats, `block` columns at a time: in the order in which a layer reads them.
static void widen(float *restrict to, const unsigned char *from, const unsigned char *scale, long rows, long columns,
                  long block)
{
    for (long first = 0; first < columns; first += block)
        for (long row = 0; row < rows; row++, to += block)
            for (long c = 0; c < block; c++) to[c] = number(from, scale, row, first + c, columns);
}
"""


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of a weight file one after the other, in the bits of the file.

    Attributes:
        offsets: byte at which each tensor begins, by its name; multiples of ALIGNMENT.
        data: all bytes.
    """

    offsets: dict[str, int]
    data: bytes


def store(tensors: Mapping[str, npt.NDArray[Any]], layers: Iterable[str]) -> StoredWeights:
    """Lay out the weights, scales and biases of these layers in order."""
    offsets: dict[str, int] = {}
    data = bytearray()
    for layer in layers:
        for name in (f"{layer}.weight", f"{layer}.weight.scale", f"{layer}.bias"):
            if name in tensors:
                data += bytes(-len(data) % ALIGNMENT)
                offsets[name] = len(data)
                data += np.ascontiguousarray(tensors[name]).tobytes()
    return StoredWeights(offsets, bytes(data))


def widening_functions(scheme: str) -> str:
    """Return the C functions that make floats of stored weights of a scheme of network/quantize.py."""
    return (_HALF + "\n" if scheme in ("fp16", "int4") else "") + _WIDEN.replace("@NUMBER@", _NUMBERS[scheme])


_ESCAPES = {byte: f"\\{byte:03o}" for byte in range(256)}
_ESCAPES |= {byte: chr(byte) for byte in range(32, 127) if chr(byte) != "?"}  # two of those might begin a trigraph
_ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}


def quote(data: bytes, columns: int) -> list[str]:
    """Return bytes as C string literals, `columns` bytes each, which C joins."""
    return [
        '"' + "".join([_ESCAPES[byte] for byte in data[i : i + columns]]) + '"' for i in range(0, len(data), columns)
    ]
