"""Choose the tile and the cutting of the work for a kernel: the `#define`s of the C files for direct convolutions.

winograd_plans.py does the same for Winograd's. The terms, from the inside out:

- A *tile* is what one run of the inner loop computes: rows × columns of outputs (for a weight gradient, inputs) by some
  vectors of channels. Its sums stay in registers. Each step of the loop reads one number for each of its rows and
  columns and one vector for each of its vectors of channels, and multiplies all pairs.
- A *chunk* is the part of an image whose input is copied to scratch memory, with its border of zeros. All tiles of a
  chunk read that copy, so it should stay in the second-level cache.
- A *group* is a part of the output channels. A thread works off whole (chunk, group) pairs.

Whether a shape is covered must not depend on the number of threads, which may change from run to run.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from edgeae.runtime.kernels.shapes import GradientShape, Shape

NARROW = 4  # up to this many output channels, lanes are pixels (narrow.c)
STACK = 196_608  # floats of scratch memory that a thread's stack can hold: 768 KB
_CHUNK = 16_384  # floats in a chunk: 64 KB, so that the second-level cache holds it beside the weights
_VISIT = 256  # pixels that a tile of weight gradients sums before its sums go back to memory
_PIXELS_A_PART = 1_024  # pixels of a batch for each further part of its weight gradients

Constants = dict[str, int | str]


@dataclass(frozen=True)
class InstructionSet:
    """Properties of a processor that decide on a kernel's tile.

    `sums` plus `columns` plus one vector for the number that is multiplied must fit into the vector registers: 32 with
    AVX-512 and NEON, 16 with AVX2 and SSE.

    Attributes:
        name: as EDGEAE_KERNELS and `edgeae compile` spell it.
        lanes: floats in a vector.
        sums: most vectors of sums in a tile.
        columns: most vectors of channels in a tile.
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
    """Return the size of the fewest parts of at most `most` that cover `whole`, as equal as possible."""
    return math.ceil(whole / math.ceil(whole / most))


def _lanes(machine: InstructionSet, channels: int) -> int:
    """Return the largest vector that `channels` can fill: there is no half-filled one."""
    return min(machine.lanes, 1 << (channels.bit_length() - 1))


def choose_tile(
    machine: InstructionSet, height: int, width: int, vectors: int, groups: int = 1, *, whole: bool = False
) -> tuple[int, int, int]:
    """Return the tile that covers an area and its channels in the least time.

    Args:
        machine: the processor.
        height, width: of the area, in cells.
        vectors: of channels.
        groups: number of groups that share the blocks of channels; the largest of them counts.
        whole: whether the tile's vectors must divide `vectors`, because blocks cannot overlap.

    Returns:
        Rows and columns of cells, and vectors of channels.
    """
    best, least = (1, 1, 1), math.inf
    for columns in range(1, min(vectors, machine.columns) + 1):
        if whole and vectors % columns:
            continue
        most = machine.sums // columns  # cells whose sums fit into registers
        across = evenly(width, most)
        down = evenly(height, most // across)
        blocks = math.ceil(math.ceil(vectors / columns) / groups)
        tiles = math.ceil(height / down) * math.ceil(width / across) * blocks
        # A step of the inner loop takes as long as its multiply-adds, `cells * columns`, or as its loads, one per cell
        # and two per vector of weights. It never takes less than 8: each sum waits for its previous multiply-add, 4
        # cycles on a processor that starts two of them per cycle.
        cost = tiles * max(down * across * columns, down * across + 2 * columns, 8)
        if cost < least:
            best, least = (down, across, columns), cost
    return best


@functools.cache
def convolution(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Return the constants of convolution.c, or None for a shape that it does not cover."""
    lanes = _lanes(machine, shape.c_out)
    cells_h, cells_w = shape.height // shape.stride, shape.width // shape.stride
    halo = shape.window + shape.step - 1 - shape.stride  # input rows that n rows of cells read beyond n · stride
    # With more weights than inputs, each thread takes a part of the weights and all inputs, not the other way round.
    shared = threads if has_more_weights(shape) else 1
    tile_h, tile_w, vectors = choose_tile(machine, cells_h, cells_w, shape.c_out // lanes, shared)
    # A chunk is as wide as the image if one row of tiles then fits the cache, else narrower, down to 32 cells: with
    # fewer, its border is too large a share of it.
    chunk_w = cells_w
    while chunk_w > max(tile_w, 32) and _floats(shape, tile_h, chunk_w, halo) > _CHUNK:
        chunk_w = max(tile_w, 32, -(-chunk_w // 2))
    # As many rows as the cache holds, but at least those of a tile.
    chunk_h = cells_h
    while chunk_h > tile_h and _floats(shape, chunk_h, chunk_w, halo) > _CHUNK:
        chunk_h -= 1
    # Chunks that do not divide the height overlap, and compute rows twice. Fewer rows may waste less: take the number
    # with the least rows in total, where copying the border of a chunk counts as 0.2 of a row.
    chunk_h = min(range(1, chunk_h + 1), key=lambda rows: math.ceil(cells_h / rows) * (rows + 0.2))
    # Down to a single row if the stack holds no more. Not only to the rows of a tile: the number of threads decides on
    # the tile, and must not decide on whether the shape is covered.
    while chunk_h > 1 and _floats(shape, chunk_h, chunk_w, halo) > STACK:
        chunk_h -= 1
    chunks = shape.batch * math.ceil(cells_h / chunk_h) * math.ceil(cells_w / chunk_w)
    blocks = math.ceil(shape.c_out / (vectors * lanes))
    groups = min(blocks, shared)
    # Few chunks that do not divide among the threads leave some of these idle at the end. Cut the height finer or,
    # where that does not help, give each thread a part of the channels.
    if groups == 1 and chunks < 8 * threads and chunks % threads:
        down = math.ceil(cells_h / chunk_h)
        finer = evenly(cells_h, min(chunk_h, max(tile_h, cells_h // (down * threads))))
        if shape.batch * math.ceil(cells_h / finer) % threads == 0:
            chunk_h = finer
        else:
            groups = min(blocks, threads)
    if _floats(shape, chunk_h, chunk_w, halo) > STACK:
        return None
    tile_h, tile_w = min(tile_h, chunk_h), min(tile_w, chunk_w)
    return common_constants(shape, threads, lanes, vectors) | {
        "TILE_H": tile_h,
        "TILE_W": tile_w,
        "CHUNK_H": chunk_h,
        "CHUNK_W": chunk_w,
        "BLOCK_GROUPS": groups,
        "STRIDE": shape.stride,
    }


def has_more_weights(shape: Shape) -> bool:
    """Return whether a convolution reads more weights than inputs."""
    return shape.weights > math.prod(shape.input)


def _floats(shape: Shape, chunk_h: int, chunk_w: int, halo: int) -> int:
    """Return the size of a chunk's input with its border."""
    return (chunk_h * shape.stride + halo) * (chunk_w * shape.stride + halo) * shape.c_in


@functools.cache
def narrow(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Return the constants of narrow.c, or None for a shape that it does not cover."""
    if shape.c_out > NARROW or shape.stride != 1:
        return None
    lanes = min(machine.lanes, 1 << (shape.width - 1).bit_length())
    # A tile is `vectors` of pixels, each with sums for all channels and for the `step` phases of an output row. Sums
    # get three quarters of their registers here: the inputs and weights need the others.
    vectors = min(max(1, 12 * machine.sums // 16 // (shape.c_out * shape.step)), math.ceil(shape.width / lanes))
    # Scratch memory holds `window` input rows, as a plane of pixels for each channel. A plane has whole tiles and a
    # vector of zeros, because the window of a tile's last cell reads up to `window − 1` pixels beyond it.
    plane = math.ceil(shape.width / (vectors * lanes)) * vectors * lanes + lanes
    window = shape.window + shape.step - 1
    rows = shape.height if shape.batch % threads == 0 else math.ceil(shape.height / threads)
    # The second product bounds the 4×4 weights, which are widened there if they are stored in fewer bits.
    if window * shape.c_in * plane + 16 * shape.c_in * shape.c_out > STACK or lanes < window:
        return None
    return common_constants(shape, threads, lanes, vectors) | {
        "CHUNK_H": rows,
        "INTERLEAVE": f"interleave_{shape.c_out}",
    }


def common_constants(shape: Shape, threads: int, lanes: int, vectors: int) -> Constants:
    """Return the constants that convolution.c, narrow.c and winograd.c share."""
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
    """Return the constants of weight_gradient.c, or None for a shape that it does not cover."""
    lanes = _lanes(machine, shape.c_small)
    height, width = shape.small_size
    run = shape.kernel * shape.c_big  # inputs in one row of a window, which follow one another in memory
    _, tile, vectors = choose_tile(machine, 1, run, math.ceil(shape.c_small / lanes))
    # A chunk is some rows of one image, or several whole images if these are small: about _VISIT pixels.
    rows, images = min(height, max(1, _VISIT // width)), min(shape.batch, max(1, _VISIT // (width * height)))
    blocks = math.ceil(shape.c_small / (vectors * lanes))
    columns = (width - 1) * shape.stride + shape.kernel

    def floats() -> int:  # in scratch memory: the chunks of `big` and `small`, and a row of sums for the bias
        big = ((rows - 1) * shape.stride + shape.kernel) * columns * shape.c_big
        small = rows * width * blocks * vectors * lanes
        return images * (big + small) + tile + columns * max(shape.c_big, shape.c_small)

    # Every tile reads both chunks, so the second-level cache should hold them: 256 KB.
    while floats() > 4 * _CHUNK and images * rows > 1:
        rows, images = (rows, images - 1) if images > 1 else (-(-rows // 2), 1)
    if floats() > STACK:
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
        "PARTS": count_parts(shape, 1),
    }


def swap(shape: Shape, machine: InstructionSet, threads: int) -> Constants | None:
    """Return the constants of swap.c, or None for channels that do not fill vectors.

    Args:
        shape: the convolution that computes a layer's input gradient; the weights to swap are those of the layer.
        machine: the processor.
        threads: that share the work.
    """
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


def count_parts(shape: GradientShape, slices: int) -> int:
    """Return into how many parts a batch's weight gradients are summed, so that threads need not share the sums.

    What this saves grows with the number of pixels; the cost of adding the parts does not. At most 8, and fewer where
    the `slices` of the inputs already give the threads something to do.
    """
    height, width = shape.small_size
    worthwhile = shape.batch * height * width // _PIXELS_A_PART
    return min(shape.batch, max(1, min(8, worthwhile) // slices, math.ceil(4 / slices) if slices > 1 else 1))


def padded(constants: Constants) -> tuple[int, int, int, int]:
    """Return the shape of what weight_gradient.c writes, in whole tiles and blocks: (parts, kernel, run, width)."""
    kernel, c_big, c_small = (int(constants[name]) for name in ("KERNEL", "C_IN", "C_OUT"))
    tile, block = int(constants["TILE"]), int(constants["VECTORS"]) * int(constants["LANES"])
    return int(constants["PARTS"]), kernel, math.ceil(kernel * c_big / tile) * tile, math.ceil(c_small / block) * block
