"""Choose the tiles and the cutting of the work for Winograd's convolutions: the `#define`s of winograd*.c.

The terms are those of plans.py and winograd.h. A convolution with a window of R × R computes squares of 2 × 2 outputs
from windows of (R+1) × (R+1) inputs with (R+1)² products in the place of 4·R². K is the number of inputs that each
product sums over: the input channels, times the 2 × 2 pixels that a stride of 2 steps over.
"""

from __future__ import annotations

import functools
import math

from edgeae.runtime.kernels.plans import (
    STACK,
    Constants,
    InstructionSet,
    choose_tile,
    common_constants,
    count_parts,
    has_more_weights,
)
from edgeae.runtime.kernels.shapes import GradientShape, Shape

_FACTORS = 36_864  # floats in the factors of a chunk's windows: 144 KB, which the second-level cache keeps
_PAIRS = 147_456  # floats in the factors of a chunk that the gradient multiplies in pairs: 576 KB
_DU = 81_920  # floats in what a thread sums of the gradient of the weights' factors: 320 KB
_WINOGRAD_WORK = 0.8  # at most this share of the direct multiplications, or the additions cost more than is saved
_WINOGRAD_TILES = 128  # at least so many squares in a batch, or computing the weights' factors costs more than is saved
_FEWEST_TILES = 16  # at least so many squares in a chunk, or reading the weights' factors is what takes the time


@functools.cache
def winograd(shape: Shape, machine: InstructionSet, threads: int, prepared: bool = False) -> Constants | None:
    """Return the constants of winograd.c, or None for a shape that it does not cover or where it does not pay.

    Args:
        shape: of the convolution.
        machine: the processor.
        threads: that share the work.
        prepared: whether the weights' factors are computed once, before, so that they cost nothing here.
    """
    lanes, (out_h, out_w) = machine.lanes, shape.out_size
    cells_h, cells_w = out_h // shape.step, out_w // shape.step
    if shape.kernel == 1 or shape.c_in % lanes or shape.c_out % lanes or min(cells_h, cells_w) < 2:
        return None
    # R, and the side of the squares of pixels that a stride of 2 steps over: their channels are summed together.
    side, sub = (3, 1) if shape.kernel == 3 else (2, shape.stride)
    products, summed = (side + 1) ** 2, sub * sub * shape.c_in  # `summed` is K
    across, vectors = math.ceil(cells_w / 2), shape.c_out // lanes
    tiles = math.ceil(cells_h / 2) * across
    # Multiplications for each pair of channels: `products` per square against R² per cell. That is 16 to 36 or 9 to 16,
    # but where a side of the image is odd squares overlap and compute some outputs twice.
    if products * tiles > _WINOGRAD_WORK * side * side * cells_h * cells_w:
        return None
    if not prepared and shape.batch * tiles < _WINOGRAD_TILES:
        return None
    # Rows of cells in a chunk: they divide the height, and are even unless the height is odd.
    possible = [rows for rows in range(2, cells_h + 1) if cells_h % rows == 0 and (rows % 2 == 0 or cells_h % 2)]
    # Those whose factors stay in the second-level cache; if there are none, the fewest rows.
    small = [rows for rows in possible if products * math.ceil(rows / 2) * across * summed <= _FACTORS]
    possible = small or possible[:1]
    # Those that give each thread the same number of chunks. Only where factors are prepared: there a batch may be a
    # single image.
    fair = [rows for rows in possible if shape.batch * (cells_h // rows) % threads == 0] if prepared else possible
    # Numbers of groups that the channels can be dealt to, and those that leave a group more than one vector: a tile of
    # one vector loads more than it multiplies.
    shares = [n for n in range(1, threads + 1) if vectors % n == 0]
    wide = [n for n in shares if n == 1 or vectors // n > 1]
    # The threads share the channels if there are more weights than inputs, or if the chunks do not divide among them.
    groups = max(wide if fair else shares) if not fair or has_more_weights(shape) else 1
    rows = max(possible if groups > 1 else fair or possible)
    # Small images share a chunk: as many as the cache holds, but where each thread should have a chunk, no more than
    # that leaves.
    most = max(1, shape.batch // threads) if prepared and groups == 1 else shape.batch
    images = min(most, max(1, _FACTORS // (products * tiles * summed))) if rows == cells_h else 1
    in_chunk = images * math.ceil(rows / 2) * across
    if prepared and in_chunk < _FEWEST_TILES:
        return None
    _, tile, columns = choose_tile(machine, 1, in_chunk, vectors, groups, whole=True)
    # In scratch memory are a chunk's input with its border, its factors, and the products of one block of channels. The
    # block counts as the widest that is possible: the number of threads decides on the tile, and must not decide on
    # whether the shape is covered.
    window = images * (rows + side) * sub * (cells_w + side) * sub * shape.c_in
    if window + products * in_chunk * (summed + min(vectors, machine.columns) * lanes) > STACK:
        return None
    return common_constants(shape, threads, lanes, columns) | {
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
    """Return the constants of winograd_weights.c for a plan of winograd.c or winograd_gradient.c.

    Args:
        constants: that plan.
        swapped: whether the stored weights have input and output channels exchanged.
        turned: whether the stored weights are turned by 180°.
    """
    names = ("LANES", "VECTORS", "THREADS", "R", "SUB", "STEP", "C_IN", "C_OUT", "PARTS")
    return {name: constants.get(name, 1) for name in names} | {
        "WEIGHT_ROW": constants["C_OUT"],
        "SWAPPED": int(swapped),
        "TURNED": int(turned),
    }


@functools.cache
def winograd_gradient(shape: GradientShape, machine: InstructionSet, threads: int) -> Constants | None:
    """Return the constants of winograd_gradient.c, or None where it does not cover a shape or does not pay."""
    lanes, (height, width) = machine.lanes, shape.small_size
    if shape.kernel == 1 or shape.turned or shape.c_big % lanes or shape.c_small % lanes or height % 2 or width % 2:
        return None
    side, sub = (3, 1) if shape.kernel == 3 else (2, 2)
    products, summed = (side + 1) ** 2, sub * sub * shape.c_big
    tiles = height * width // 4
    if shape.batch * tiles < _WINOGRAD_TILES:
        return None
    # The K inputs are cut into slices of whole vectors, as few as the cache allows that holds a slice's sums.
    most = max(lanes, _DU // (products * shape.c_small))
    slices = next(n for n in range(1, summed // lanes + 1) if summed % (n * lanes) == 0 and summed // n <= most)
    parts = count_parts(shape, slices)
    floats = products * (summed // slices + shape.c_small)  # in the factors of a square and of its window
    # A chunk is some rows of squares of one image, or several whole images if these are small.
    rows = max(
        rows
        for rows in range(1, height // 2 + 1)
        if height // 2 % rows == 0 and (rows == 1 or rows * width // 2 * floats <= _PAIRS)
    )
    images = min(shape.batch // parts, max(1, _PAIRS // (tiles * floats))) if rows == height // 2 else 1
    window = (2 * rows + side) * sub * (width + side) * sub * shape.c_big
    if window + images * rows * (width // 2) * floats > STACK:
        return None
    vectors = 2 if shape.c_small % (2 * lanes) == 0 else 1
    # The most inputs that the registers have room for and that divide the slice.
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


def factors(constants: Constants) -> tuple[int, int, int, int]:
    """Return the size of the weights' factors of a plan, or the shape of their gradient.

    Returns:
        For winograd.c (phases, products, K, c_out), which lie in memory in another order (winograd_weights.c); for
        winograd_gradient.c (parts, products, K, c_out).
    """
    side, sub = int(constants["R"]), int(constants["SUB"])
    first = int(constants["PARTS"]) if "PARTS" in constants else int(constants["STEP"]) ** 2
    return first, (side + 1) ** 2, sub * sub * int(constants["C_IN"]), int(constants["C_OUT"])
