"""The tile of a kernel and how its work is cut, for a shape and an instruction set: the constants of the C files.

A tile's sums stay in registers. Every step of the sum takes one number for each of its rows (pixels, or for a weight
gradient inputs) and one vector for each of its columns (channels), and multiplies all pairs. A chunk is what of the
input lies in scratch memory at a time, with its border of zeros.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from edgeae.kernels.shapes import GradientShape, Shape

NARROW = 4  # to this many channels, lanes are pixels
_CHUNK = 16_384  # floats in a chunk that the second-level cache keeps beside the weights: 64 KB
_SCRATCH = 65_536  # floats that a thread's stack can hold: 256 KB
_VISIT = 256  # pixels that a tile of weight gradients sums before it is stored again

Constants = dict[str, int | str]


@dataclass(frozen=True)
class InstructionSet:
    """What a kernel must know of the processor.

    Attributes:
        lanes: floats in a vector.
        sums: vectors of a tile that stay in registers, beside what is multiplied.
    """

    name: str
    lanes: int
    sums: int


INSTRUCTION_SETS = {
    "avx512": InstructionSet("avx512", 16, 16),
    "avx2": InstructionSet("avx2", 8, 12),
    "neon": InstructionSet("neon", 4, 16),
    "plain": InstructionSet("plain", 4, 8),
}


def evenly(whole: int, most: int) -> int:
    """The size of the fewest equal parts of at most `most` that cover `whole`."""
    return math.ceil(whole / math.ceil(whole / most))


def _lanes(machine: InstructionSet, channels: int) -> int:
    """Lanes that `channels` can fill: there is no half-filled vector."""
    return min(machine.lanes, 1 << (channels.bit_length() - 1))


def _tile(machine: InstructionSet, height: int, width: int, vectors: int) -> tuple[int, int, int]:
    """(rows, columns, vectors) of the tile that needs the fewest steps to cover an area and its channels."""
    best, least = (1, 1, 1), math.inf
    for columns in range(1, min(vectors, machine.sums) + 1):
        most = machine.sums // columns
        across = evenly(width, most)
        down = evenly(height, most // across)
        tiles = math.ceil(height / down) * math.ceil(width / across) * math.ceil(vectors / columns)
        # A step is as long as its multiplications or its loads, and never shorter than the latency of one of them.
        cost = tiles * max(down * across * columns, down * across + 2 * columns, 8)
        if cost < least:
            best, least = (down, across, columns), cost
    return best


@functools.cache
def convolution(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Constants of convolution.c; None for a shape that it does not cover."""
    lanes = _lanes(machine, shape.c_out)
    cells_h, cells_w = shape.height // shape.stride, shape.width // shape.stride
    halo = shape.window + shape.step - 1 - shape.stride  # what a chunk's rows need beyond their own
    tile_h, tile_w, vectors = _tile(machine, cells_h, cells_w, shape.c_out // lanes)
    most = min(cells_w, max(tile_w, 32 * shape.stride))
    chunk_w = cells_w
    while _floats(shape, tile_h, chunk_w, halo) > _CHUNK and chunk_w > most:
        chunk_w = max(most, -(-chunk_w // 2))
    chunk_h = cells_h
    while chunk_h > tile_h and _floats(shape, chunk_h, chunk_w, halo) > _CHUNK:
        chunk_h -= 1
    chunk_h = evenly(cells_h, chunk_h)
    chunks = shape.batch * math.ceil(cells_h / chunk_h) * math.ceil(cells_w / chunk_w)
    blocks = math.ceil(shape.c_out / (vectors * lanes))
    groups = 1
    if chunks < 8 * threads and chunks % threads:
        down = math.ceil(cells_h / chunk_h)
        finer = evenly(cells_h, max(tile_h, cells_h // (down * threads)))
        if shape.batch * math.ceil(cells_h / finer) % threads == 0:
            chunk_h = finer
        else:
            groups = min(blocks, threads)
    if _floats(shape, chunk_h, chunk_w, halo) > _SCRATCH:
        return None
    tile_h, tile_w = min(tile_h, chunk_h), min(tile_w, chunk_w)
    return _common(shape, threads, lanes, vectors) | {
        "TILE_H": tile_h, "TILE_W": tile_w, "CHUNK_H": chunk_h, "CHUNK_W": chunk_w, "BLOCK_GROUPS": groups,
        "STRIDE": shape.stride,
    }


def _floats(shape: Shape, chunk_h: int, chunk_w: int, halo: int) -> int:
    return (chunk_h * shape.stride + halo) * (chunk_w * shape.stride + halo) * shape.c_in


@functools.cache
def narrow(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Constants of narrow.c; None for a shape that it does not cover."""
    if shape.c_out > NARROW or shape.stride != 1:
        return None
    lanes = min(machine.lanes, 1 << (shape.width - 1).bit_length())
    vectors = min(max(1, 12 * machine.sums // 16 // (shape.c_out * shape.step)), math.ceil(shape.width / lanes))
    plane = math.ceil(shape.width / (vectors * lanes)) * vectors * lanes + lanes
    halo = shape.window + shape.step - 2
    rows = max(1, min(shape.height, _CHUNK // (shape.c_in * plane) - halo))
    rows = evenly(shape.height, min(rows, math.ceil(shape.height * shape.batch / threads)))
    floats = (rows + halo) * shape.c_in * plane + 16 * shape.c_in * shape.c_out
    if floats > _SCRATCH or lanes < shape.window + shape.step:
        return None
    low = [i // 2 + i % 2 * lanes for i in range(lanes)]
    return _common(shape, threads, lanes, vectors) | {
        "CHUNK_H": rows,
        "LOW_HALVES": ",".join(map(str, low)), "HIGH_HALVES": ",".join(str(i + lanes // 2) for i in low),
    }


def _common(shape: Shape, threads: int, lanes: int, vectors: int) -> Constants:
    out_h, out_w = shape.out_size
    return {
        "LANES": lanes, "VECTORS": vectors, "THREADS": threads, "BATCH": shape.batch, "KERNEL": shape.window,
        "STEP": shape.step, "PADDING": shape.padding, "IN_H": shape.height, "IN_W": shape.width, "OUT_H": out_h,
        "OUT_W": out_w, "C_IN": shape.c_in, "C_OUT": shape.c_out,
    }


@functools.cache
def weight_gradient(shape: GradientShape, machine: InstructionSet, threads: int) -> Constants | None:
    """Constants of weight_gradient.c; None for a shape that it does not cover."""
    lanes = _lanes(machine, shape.c_small)
    height, width = shape.small_size
    run = shape.kernel * shape.c_big
    _, tile, vectors = _tile(machine, 1, run, math.ceil(shape.c_small / lanes))
    rows, images = min(height, max(1, _VISIT // width)), min(shape.batch, max(1, _VISIT // (width * height)))
    blocks = math.ceil(shape.c_small / (vectors * lanes))
    columns = (width - 1) * shape.stride + shape.kernel

    def floats() -> int:
        big = ((rows - 1) * shape.stride + shape.kernel) * columns * shape.c_big
        small = rows * width * blocks * vectors * lanes
        return images * (big + small) + tile + columns * max(shape.c_big, shape.c_small)

    while floats() > _SCRATCH and images * rows > 1:
        rows, images = (rows, images - 1) if images > 1 else (-(-rows // 2), 1)
    if floats() > _SCRATCH:
        return None
    return {
        "LANES": lanes, "VECTORS": vectors, "TILE": tile, "CHUNK_H": rows, "IMAGES": images, "THREADS": threads,
        "BATCH": shape.batch, "KERNEL": shape.kernel, "STRIDE": shape.stride, "PADDING": shape.padding,
        "IN_H": shape.height, "IN_W": shape.width, "OUT_H": height, "OUT_W": width, "C_IN": shape.c_big,
        "C_OUT": shape.c_small, "ERROR_IS_BIG": int(shape.error_is_big),
    }


def padded(constants: Constants) -> tuple[int, int, int]:
    """Shape of the weight gradient as weight_gradient.c writes it, whole tiles and blocks: (kernel, run, width)."""
    kernel, c_big, c_small = (int(constants[name]) for name in ("KERNEL", "C_IN", "C_OUT"))
    tile, block = int(constants["TILE"]), int(constants["VECTORS"]) * int(constants["LANES"])
    return kernel, math.ceil(kernel * c_big / tile) * tile, math.ceil(c_small / block) * block
