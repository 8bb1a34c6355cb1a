"""The tile of a kernel and how its work is cut, for a shape and an instruction set: the constants of the C files.

A tile's sums stay in registers. Every step of the sum takes one number for each of its rows (pixels, or for a weight
gradient inputs) and one vector for each of its columns (channels), and multiplies all pairs. A chunk is what of the
input lies in scratch memory at a time, with its border of zeros.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from edgeae.runtime.kernels.shapes import GradientShape, Shape

NARROW = 4  # to this many channels, lanes are pixels
_CHUNK = 16_384  # floats in a chunk that the second-level cache keeps beside the weights: 64 KB
_STACK = 196_608  # floats that a thread's stack can hold: 768 KB
_VISIT = 256  # pixels that a tile of weight gradients sums before it is stored again
_FACTORS = 36_864  # floats in the factors of a chunk of Winograd's windows: 144 KB
_PAIRS = 147_456  # floats in the factors of a chunk that Winograd's gradient multiplies in pairs: 576 KB
_DU = 81_920  # floats in what a thread sums of the gradient of Winograd's factors: 320 KB
_WINOGRAD_WORK = 0.8  # of the multiplications that it may take at most, to pay for its additions
_WINOGRAD_TILES = 128  # in a batch, that are worth the making of the weights' factors
_FEWEST_TILES = 16  # in a chunk: with less, reading the weights' factors is what takes the time
_PIXELS_A_PART = 1_024  # of the images whose weight gradients are summed apart

Constants = dict[str, int | str]


@dataclass(frozen=True)
class InstructionSet:
    """What a kernel must know of the processor.

    Attributes:
        lanes: floats in a vector.
        sums: vectors of a tile that stay in registers, beside what is multiplied.
        columns: vectors of channels that a tile may have, so that these find registers too.
    """

    name: str
    lanes: int
    sums: int
    columns: int


INSTRUCTION_SETS = {
    "avx512": InstructionSet("avx512", 16, 16, 8),
    "avx2": InstructionSet("avx2", 8, 12, 2),
    "neon": InstructionSet("neon", 4, 16, 8),
    "plain": InstructionSet("plain", 4, 8, 2),
}


def evenly(whole: int, most: int) -> int:
    """The size of the fewest equal parts of at most `most` that cover `whole`."""
    return math.ceil(whole / math.ceil(whole / most))


def _lanes(machine: InstructionSet, channels: int) -> int:
    """Lanes that `channels` can fill: there is no half-filled vector."""
    return min(machine.lanes, 1 << (channels.bit_length() - 1))


def _tile(
    machine: InstructionSet, height: int, width: int, vectors: int, groups: int = 1, *, whole: bool = False
) -> tuple[int, int, int]:
    """(rows, columns, vectors) of the tile that needs the fewest steps to cover an area and its channels.

    Args:
        groups: that the tile's blocks of channels are dealt to.
        whole: blocks must not overlap.
    """
    best, least = (1, 1, 1), math.inf
    for columns in range(1, min(vectors, machine.columns) + 1):
        if whole and vectors % columns:
            continue
        most = machine.sums // columns
        across = evenly(width, most)
        down = evenly(height, most // across)
        blocks = math.ceil(math.ceil(vectors / columns) / groups)
        tiles = math.ceil(height / down) * math.ceil(width / across) * blocks
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
    shared = threads if _has_more_weights(shape) else 1
    tile_h, tile_w, vectors = _tile(machine, cells_h, cells_w, shape.c_out // lanes, shared)
    chunk_w = cells_w
    while chunk_w > max(tile_w, 32) and _floats(shape, tile_h, chunk_w, halo) > _CHUNK:
        chunk_w = max(tile_w, 32, -(-chunk_w // 2))
    chunk_h = cells_h
    while chunk_h > tile_h and _floats(shape, chunk_h, chunk_w, halo) > _CHUNK:
        chunk_h -= 1
    # Chunks that do not divide the height overlap; small ones copy more of their border.
    chunk_h = min(range(1, chunk_h + 1), key=lambda rows: math.ceil(cells_h / rows) * (rows + 0.2))
    # Whether a shape is covered must not depend on the tile, which the number of threads decides on.
    while chunk_h > 1 and _floats(shape, chunk_h, chunk_w, halo) > _STACK:
        chunk_h -= 1
    chunks = shape.batch * math.ceil(cells_h / chunk_h) * math.ceil(cells_w / chunk_w)
    blocks = math.ceil(shape.c_out / (vectors * lanes))
    groups = min(blocks, shared)
    if groups == 1 and chunks < 8 * threads and chunks % threads:
        down = math.ceil(cells_h / chunk_h)
        finer = evenly(cells_h, min(chunk_h, max(tile_h, cells_h // (down * threads))))
        if shape.batch * math.ceil(cells_h / finer) % threads == 0:
            chunk_h = finer
        else:
            groups = min(blocks, threads)
    if _floats(shape, chunk_h, chunk_w, halo) > _STACK:
        return None
    tile_h, tile_w = min(tile_h, chunk_h), min(tile_w, chunk_w)
    return _common(shape, threads, lanes, vectors) | {
        "TILE_H": tile_h,
        "TILE_W": tile_w,
        "CHUNK_H": chunk_h,
        "CHUNK_W": chunk_w,
        "BLOCK_GROUPS": groups,
        "STRIDE": shape.stride,
    }


def _has_more_weights(shape: Shape) -> bool:
    """More than inputs: each thread then reads all inputs and a part of the weights, not the other way round."""
    return shape.weights > math.prod(shape.input)


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
    window = shape.window + shape.step - 1
    rows = shape.height if shape.batch % threads == 0 else math.ceil(shape.height / threads)
    if window * shape.c_in * plane + 16 * shape.c_in * shape.c_out > _STACK or lanes < window:
        return None
    return _common(shape, threads, lanes, vectors) | {"CHUNK_H": rows, "INTERLEAVE": f"interleave_{shape.c_out}"}


def _common(shape: Shape, threads: int, lanes: int, vectors: int) -> Constants:
    out_h, out_w = shape.out_size
    return {
        "LANES": lanes,
        "VECTORS": vectors,
        "THREADS": threads,
        "BATCH": shape.batch,
        "KERNEL": shape.window,
        "STEP": shape.step,
        "PADDING": shape.padding,
        "IN_H": shape.height,
        "IN_W": shape.width,
        "OUT_H": out_h,
        "OUT_W": out_w,
        "C_IN": shape.c_in,
        "C_OUT": shape.c_out,
        "WEIGHT_ROW": shape.c_out,
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

    while floats() > 4 * _CHUNK and images * rows > 1:
        rows, images = (rows, images - 1) if images > 1 else (-(-rows // 2), 1)
    if floats() > _STACK:
        return None
    return {
        "LANES": lanes,
        "VECTORS": vectors,
        "TILE": tile,
        "CHUNK_H": rows,
        "IMAGES": images,
        "THREADS": threads,
        "BATCH": shape.batch,
        "KERNEL": shape.kernel,
        "STRIDE": shape.stride,
        "PADDING": shape.padding,
        "IN_H": shape.height,
        "IN_W": shape.width,
        "OUT_H": height,
        "OUT_W": width,
        "C_IN": shape.c_big,
        "C_OUT": shape.c_small,
        "ERROR_IS_BIG": int(shape.error_is_big),
        "PARTS": _parts(shape, 1),
    }


def swap(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Constants of swap.c, for the weights of the convolution whose input's gradient `shape` is; None for channels that
    do not fill vectors."""
    if shape.c_in % machine.lanes or shape.c_out % machine.lanes:
        return None
    return {
        "LANES": machine.lanes,
        "THREADS": threads,
        "SIDE": shape.kernel,
        "C_IN": shape.c_out,
        "C_OUT": shape.c_in,
        "TURNED": int(shape.keeps_size),
    }


@functools.cache
def winograd(shape: Shape, machine: InstructionSet, threads: int, prepared: bool = False) -> Constants | None:
    """Constants of winograd.c; None for a shape that it does not cover, or where it does not pay.

    Args:
        prepared: the weights' factors are made before, once, so that they cost nothing.
    """
    lanes, (out_h, out_w) = machine.lanes, shape.out_size
    cells_h, cells_w = out_h // shape.step, out_w // shape.step
    if shape.kernel == 1 or shape.c_in % lanes or shape.c_out % lanes or min(cells_h, cells_w) < 2:
        return None
    side, sub = (3, 1) if shape.kernel == 3 else (2, shape.stride)
    products, summed = (side + 1) ** 2, sub * sub * shape.c_in
    across, vectors = math.ceil(cells_w / 2), shape.c_out // lanes
    tiles = math.ceil(cells_h / 2) * across
    # Squares that overlap, where a side is odd, compute some outputs twice.
    if products * tiles > _WINOGRAD_WORK * side * side * cells_h * cells_w:
        return None
    if not prepared and shape.batch * tiles < _WINOGRAD_TILES:  # the weights' factors cost more than they save
        return None
    possible = [rows for rows in range(2, cells_h + 1) if cells_h % rows == 0 and (rows % 2 == 0 or cells_h % 2)]
    # Smaller ones if there are any: their factors stay in the second-level cache.
    small = [rows for rows in possible if products * math.ceil(rows / 2) * across * summed <= _FACTORS]
    possible = small or possible[:1]
    # Where a batch does not give each thread the same work, as one image does not, its chunks should.
    fair = [rows for rows in possible if shape.batch * (cells_h // rows) % threads == 0] if prepared else possible
    shares = [n for n in range(1, threads + 1) if vectors % n == 0]
    wide = [n for n in shares if n == 1 or vectors // n > 1]  # a tile of one vector loads more than it multiplies
    groups = max(wide if fair else shares) if not fair or _has_more_weights(shape) else 1
    rows = max(possible if groups > 1 else fair or possible)
    most = max(1, shape.batch // threads) if prepared and groups == 1 else shape.batch
    images = min(most, max(1, _FACTORS // (products * tiles * summed))) if rows == cells_h else 1
    in_chunk = images * math.ceil(rows / 2) * across
    if prepared and in_chunk < _FEWEST_TILES:
        return None
    _, tile, columns = _tile(machine, 1, in_chunk, vectors, groups, whole=True)
    window = images * (rows + side) * sub * (cells_w + side) * sub * shape.c_in
    # Of the widest tile: the number of threads decides on the tile, and must not on the kernel.
    if window + products * in_chunk * (summed + min(vectors, machine.columns) * lanes) > _STACK:
        return None
    return _common(shape, threads, lanes, columns) | {
        "R": side,
        "SUB": sub,
        "TILE_H": 1,
        "TILE_W": tile,
        "CHUNK_H": rows,
        "IMAGES": images,
        "BLOCK_GROUPS": groups,
        "WEIGHT_ROW": columns * lanes,
    }


def winograd_weights(constants: Constants, *, swapped: bool, turned: bool) -> Constants:
    """Constants of winograd_weights.c, of the weights of a plan of winograd.c or winograd_gradient.c.

    Args:
        constants: that plan.
        swapped, turned: how the stored weights differ from those that the plan means.
    """
    names = ("LANES", "VECTORS", "THREADS", "R", "SUB", "STEP", "C_IN", "C_OUT", "PARTS")
    return {name: constants.get(name, 1) for name in names} | {
        "WEIGHT_ROW": constants["C_OUT"],
        "SWAPPED": int(swapped),
        "TURNED": int(turned),
    }


@functools.cache
def winograd_gradient(shape: GradientShape, machine: InstructionSet, threads: int) -> Constants | None:
    """Constants of winograd_gradient.c; None for a shape that it does not cover, or where it does not pay."""
    lanes, (height, width) = machine.lanes, shape.small_size
    if shape.kernel == 1 or shape.turned or shape.c_big % lanes or shape.c_small % lanes or height % 2 or width % 2:
        return None
    side, sub = (3, 1) if shape.kernel == 3 else (2, 2)
    products, summed = (side + 1) ** 2, sub * sub * shape.c_big
    tiles = height * width // 4
    if shape.batch * tiles < _WINOGRAD_TILES:
        return None
    most = max(lanes, _DU // (products * shape.c_small))
    slices = next(n for n in range(1, summed // lanes + 1) if summed % (n * lanes) == 0 and summed // n <= most)
    parts = _parts(shape, slices)
    floats = products * (summed // slices + shape.c_small)  # the factors of a tile
    rows = max(
        rows
        for rows in range(1, height // 2 + 1)
        if height // 2 % rows == 0 and (rows == 1 or rows * width // 2 * floats <= _PAIRS)
    )
    images = min(shape.batch // parts, max(1, _PAIRS // (tiles * floats))) if rows == height // 2 else 1
    window = (2 * rows + side) * sub * (width + side) * sub * shape.c_big
    if window + images * rows * (width // 2) * floats > _STACK:
        return None
    vectors = 2 if shape.c_small % (2 * lanes) == 0 else 1
    tile = next(rows for rows in range(machine.sums // vectors, 0, -1) if summed // slices % rows == 0)
    return {
        "LANES": lanes,
        "VECTORS": vectors,
        "TILE": tile,
        "CHUNK_H": 2 * rows,
        "IMAGES": images,
        "THREADS": threads,
        "BATCH": shape.batch,
        "R": side,
        "SUB": sub,
        "SLICE": summed // slices,
        "PADDING": 1,
        "IN_H": shape.height,
        "IN_W": shape.width,
        "OUT_H": height,
        "OUT_W": width,
        "C_IN": shape.c_big,
        "C_OUT": shape.c_small,
        "ERROR_IS_BIG": int(shape.error_is_big),
        "PARTS": parts,
    }


def _parts(shape: GradientShape, slices: int) -> int:
    """Parts of the batch that are summed apart, so that threads need not share them: what this saves grows with the
    pixels, and the adding of the parts does not."""
    height, width = shape.small_size
    worthwhile = shape.batch * height * width // _PIXELS_A_PART
    return min(shape.batch, max(1, min(8, worthwhile) // slices, math.ceil(4 / slices) if slices > 1 else 1))


def padded(constants: Constants) -> tuple[int, int, int, int]:
    """Shape of what weight_gradient.c writes, in whole tiles and blocks: (parts, kernel, run, width)."""
    kernel, c_big, c_small = (int(constants[name]) for name in ("KERNEL", "C_IN", "C_OUT"))
    tile, block = int(constants["TILE"]), int(constants["VECTORS"]) * int(constants["LANES"])
    return int(constants["PARTS"]), kernel, math.ceil(kernel * c_big / tile) * tile, math.ceil(c_small / block) * block


def factors(constants: Constants) -> tuple[int, int, int, int]:
    """Size of the weights' factors of a plan of winograd.c, (phases, products, K, c_out) in another order, or shape of
    their gradient as winograd_gradient.c writes it, (parts, products, K, c_out)."""
    side, sub = int(constants["R"]), int(constants["SUB"])
    first = int(constants["PARTS"]) if "PARTS" in constants else int(constants["STEP"]) ** 2
    return first, (side + 1) ** 2, sub * sub * int(constants["C_IN"]), int(constants["C_OUT"])
