"""Plans respect the registers, the memory and the output, and cover every output."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeae.runtime.kernels import plans, winograd_plans
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, Constants, InstructionSet
from edgeae.runtime.kernels.shapes import GradientShape, Shape, weight_gradient_shapes

STACK_FLOATS = 200_000  # 800 KB
WINOGRAD_FLOATS = 200_000  # 800 KB, where a thread has 1 MB on Windows

machines = st.sampled_from(list(INSTRUCTION_SETS.values()))
threads = st.integers(1, 9) | st.sampled_from([16, 32, 128])
many = settings(max_examples=500, derandomize=True, deadline=None, database=None)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kernel, up = draw(st.sampled_from([(1, False), (3, False), (4, False), (4, True)]))
    even = 2 if kernel == 4 and not up else 1
    size = st.integers(1, 70) | st.integers(1, 1100)
    channels = st.integers(1, 130) | st.integers(1, 20) | st.integers(1, 3000)
    height, width = even * draw(size), even * draw(size)
    return Shape(draw(st.integers(1, 70)), height, width, draw(channels), draw(channels), kernel, up)


def covered(whole: int, part: int, step: int | None = None) -> bool:
    """Return whether parts that start every `step`, the last ones earlier to end with the whole, cover all of it."""
    starts = [min(start, whole - part) for start in range(0, whole, step or part)]
    return min(starts) == 0 and starts[-1] + part == whole and all(b <= a + part for a, b in itertools.pairwise(starts))


def test_covered() -> None:
    assert covered(7, 3) and covered(7, 7) and covered(1, 1)
    assert not covered(7, 9) and not covered(7, 2, 3)


def check_vectors(plan: dict[str, int], machine: InstructionSet, channels: int) -> None:
    """Check that the machine has these vectors, and that the channels fill them."""
    lanes, vectors = plan["LANES"], plan["VECTORS"]
    assert 1 <= lanes <= machine.lanes and lanes & (lanes - 1) == 0
    assert vectors >= 1 and lanes <= channels


def numbers(plan: Constants) -> dict[str, int]:
    return {name: value for name, value in plan.items() if isinstance(value, int)}


@given(shape=shapes(), machine=machines, threads=threads)
@many
def test_convolution(shape: Shape, machine: InstructionSet, threads: int) -> None:
    found = plans.convolution(shape, machine, threads)
    if found is None:
        return
    plan = numbers(found)
    check_vectors(plan, machine, shape.c_out)
    block = plan["LANES"] * plan["VECTORS"]
    assert plan["TILE_H"] * plan["TILE_W"] * plan["VECTORS"] <= machine.sums
    cells = (shape.height // shape.stride, shape.width // shape.stride)
    for whole, side in zip(cells, "HW", strict=True):
        tile, chunk = plan[f"TILE_{side}"], plan[f"CHUNK_{side}"]
        assert 1 <= tile <= chunk <= whole
        assert covered(chunk, tile) and covered(whole, chunk)
    assert covered(shape.c_out, block)
    sides = [(chunk - 1) * shape.stride + shape.window + shape.step - 1 for chunk in (plan["CHUNK_H"], plan["CHUNK_W"])]
    assert math.prod(sides) * shape.c_in <= STACK_FLOATS
    assert 1 <= plan["BLOCK_GROUPS"] <= math.ceil(shape.c_out / block)
    assert (plan["STRIDE"], plan["STEP"], plan["KERNEL"], plan["PADDING"]) == (
        shape.stride,
        shape.step,
        shape.window,
        shape.padding,
    )
    check_sizes(plan, shape, threads)


@given(shape=shapes(), machine=machines, threads=threads)
@many
def test_narrow(shape: Shape, machine: InstructionSet, threads: int) -> None:
    few = Shape(shape.batch, shape.height, shape.width, shape.c_in, 1 + shape.c_out % 6, shape.kernel, shape.up)
    found = plans.narrow(few, machine, threads)
    if found is None:
        return
    assert few.c_out <= plans.NARROW and few.stride == 1
    plan = numbers(found)
    lanes, vectors = plan["LANES"], plan["VECTORS"]
    assert 1 <= lanes <= machine.lanes and lanes & (lanes - 1) == 0
    assert vectors * few.c_out * few.step <= machine.sums
    assert lanes >= few.window + few.step - 1  # a window that begins in the last pixel of a row ends in its padding
    assert (vectors - 1) * lanes < few.width  # no vector without a pixel
    assert covered(few.height, plan["CHUNK_H"])
    check_sizes(plan, few, threads)


def check_sizes(plan: dict[str, int], shape: Shape, threads: int) -> None:
    assert [plan[name] for name in ("BATCH", "IN_H", "IN_W", "C_IN", "OUT_H", "OUT_W", "C_OUT", "THREADS")] == [
        shape.batch,
        shape.height,
        shape.width,
        shape.c_in,
        *shape.out_size,
        shape.c_out,
        threads,
    ]


@given(shape=shapes(), machine=machines, threads=threads)
@many
def test_weight_gradient(shape: Shape, machine: InstructionSet, threads: int) -> None:
    for form in weight_gradient_shapes(shape):
        if found := plans.weight_gradient(form, machine, threads):
            check_weight_gradient(numbers(found), form, machine, threads)


def check_weight_gradient(plan: dict[str, int], form: GradientShape, machine: InstructionSet, threads: int) -> None:
    check_vectors(plan, machine, form.c_small)
    assert plan["TILE"] * plan["VECTORS"] <= machine.sums
    height, width = form.small_size
    assert 1 <= plan["CHUNK_H"] <= height and 1 <= plan["IMAGES"] <= form.batch
    k, run, columns = plans.padded(dict(plan))[-3:]
    assert k == form.kernel
    assert run % plan["TILE"] == 0 and 0 <= run - k * form.c_big < plan["TILE"]
    block = plan["VECTORS"] * plan["LANES"]
    assert columns % block == 0 and 0 <= columns - form.c_small < block
    rows_in = (plan["CHUNK_H"] - 1) * form.stride + form.kernel
    columns_in = (width - 1) * form.stride + form.kernel
    scratch = plan["IMAGES"] * (rows_in * columns_in * form.c_big + plan["CHUNK_H"] * width * columns)
    assert scratch <= STACK_FLOATS
    assert [plan[name] for name in ("BATCH", "IN_H", "IN_W", "C_IN", "OUT_H", "OUT_W", "C_OUT", "THREADS")] == [
        form.batch,
        form.height,
        form.width,
        form.c_big,
        height,
        width,
        form.c_small,
        threads,
    ]
    assert (plan["KERNEL"], plan["STRIDE"], plan["PADDING"], plan["ERROR_IS_BIG"]) == (
        form.kernel,
        form.stride,
        form.padding,
        form.error_is_big,
    )


@st.composite
def whole_vectors(draw: st.DrawFn) -> Shape:
    """Draw shapes that Winograd's kernels cover."""
    kernel, up = draw(st.sampled_from([(3, False), (4, False), (4, True)]))
    even = 2 if kernel == 4 and not up else 1
    size, channels = st.integers(1, 20) | st.integers(1, 150), st.sampled_from([4, 8, 12, 16, 24, 32, 48, 64, 128, 256])
    height, width = even * draw(size), even * draw(size)
    return Shape(draw(st.integers(1, 70)), height, width, draw(channels), draw(channels), kernel, up)


@given(shape=whole_vectors(), machine=machines, threads=threads, prepared=st.booleans())
@many
def test_winograd(shape: Shape, machine: InstructionSet, threads: int, prepared: bool) -> None:
    found = winograd_plans.winograd(shape, machine, threads, prepared)
    if found is None:
        return
    plan = numbers(found)
    lanes, block = plan["LANES"], plan["LANES"] * plan["VECTORS"]
    assert shape.c_in % lanes == shape.c_out % lanes == 0 and lanes <= machine.lanes
    assert shape.c_out % block == 0 and plan["WEIGHT_ROW"] == block
    assert 1 <= plan["BLOCK_GROUPS"] <= min(threads, shape.c_out // block)
    assert shape.c_out // block % plan["BLOCK_GROUPS"] == 0  # the same work for each
    cells_h, cells_w = (size // shape.step for size in shape.out_size)
    assert cells_h % plan["CHUNK_H"] == 0 and cells_h % 2 == plan["CHUNK_H"] % 2  # only the last square may overlap
    assert covered(shape.batch, plan["IMAGES"])
    squares = plan["IMAGES"] * -(-plan["CHUNK_H"] // 2) * -(-cells_w // 2)
    assert 1 <= plan["TILE_H"] * plan["TILE_W"] <= squares
    assert plan["TILE_H"] * plan["TILE_W"] * plan["VECTORS"] <= machine.sums
    side, sub = plan["R"], plan["SUB"]
    assert side * sub * shape.step == shape.kernel
    window = (plan["CHUNK_H"] + side) * sub * (cells_w + side) * sub * shape.c_in
    factors = (side + 1) ** 2 * squares * (sub * sub * shape.c_in + block)
    assert plan["IMAGES"] * window + factors <= WINOGRAD_FLOATS
    phases, products, summed, width = winograd_plans.factors(found)
    assert (phases, products, summed, width) == (shape.step**2, (side + 1) ** 2, sub * sub * shape.c_in, shape.c_out)
    check_sizes(plan, shape, threads)


@given(shape=whole_vectors(), machine=machines, threads=threads)
@many
def test_winograd_gradient(shape: Shape, machine: InstructionSet, threads: int) -> None:
    form = weight_gradient_shapes(shape)[0]
    found = winograd_plans.winograd_gradient(form, machine, threads)
    if found is None:
        return
    plan = numbers(found)
    height, width = form.small_size
    side, sub, summed = plan["R"], plan["SUB"], plan["SUB"] ** 2 * form.c_big
    assert side * sub == form.kernel
    assert plan["TILE"] * plan["VECTORS"] <= machine.sums
    assert summed % plan["SLICE"] == plan["SLICE"] % plan["TILE"] == plan["SLICE"] % plan["LANES"] == 0
    assert form.c_small % (plan["LANES"] * plan["VECTORS"]) == 0
    assert plan["CHUNK_H"] % 2 == width % 2 == height % plan["CHUNK_H"] == 0
    assert 1 <= plan["PARTS"] <= form.batch and 1 <= plan["IMAGES"] <= form.batch // plan["PARTS"]
    squares = plan["IMAGES"] * plan["CHUNK_H"] // 2 * width // 2
    window = (plan["CHUNK_H"] + side) * sub * (width + side) * sub * form.c_big
    assert window + (side + 1) ** 2 * squares * (plan["SLICE"] + form.c_small) <= WINOGRAD_FLOATS
    assert winograd_plans.factors(found) == (plan["PARTS"], (side + 1) ** 2, summed, form.c_small)


@given(shape=whole_vectors(), machine=machines)
@example(Shape(16, 7, 6, 16, 160, 3), INSTRUCTION_SETS["avx512"])  # threads have tiles of other widths
@many
def test_threads_do_not_change_winograds_sums(shape: Shape, machine: InstructionSet) -> None:
    form = weight_gradient_shapes(shape)[0]
    for threads in (2, 3, 16):
        assert (winograd_plans.winograd(shape, machine, 1) is None) == (
            winograd_plans.winograd(shape, machine, threads) is None
        )
        one, other = (
            winograd_plans.winograd_gradient(form, machine, 1),
            winograd_plans.winograd_gradient(form, machine, threads),
        )
        assert (one is None) == (other is None)
        assert one is None or other is None or (one | {"THREADS": 0}) == (other | {"THREADS": 0})


@given(shape=shapes(), machine=machines)
@example(Shape(16, 20, 4, 4261, 96, 4), INSTRUCTION_SETS["avx512"])  # and of other heights
@many
def test_threads_do_not_decide_which_kernel_runs(shape: Shape, machine: InstructionSet) -> None:
    """Otherwise results would depend on the number of threads."""
    few = Shape(shape.batch, shape.height, shape.width, shape.c_in, 1 + shape.c_out % 4, shape.kernel, shape.up)
    forms = weight_gradient_shapes(shape)
    for threads in (2, 3, 7, 16):
        assert (plans.convolution(shape, machine, 1) is None) == (plans.convolution(shape, machine, threads) is None)
        assert (plans.narrow(few, machine, 1) is None) == (plans.narrow(few, machine, threads) is None)
        for form in forms:
            one, other = plans.weight_gradient(form, machine, 1), plans.weight_gradient(form, machine, threads)
            assert (one is None) == (other is None)
            assert one is None or other is None or (one | {"THREADS": 0}) == (other | {"THREADS": 0})  # its sums' order


@pytest.mark.parametrize("machine", INSTRUCTION_SETS.values(), ids=INSTRUCTION_SETS)
def test_layers_of_usual_networks_are_covered(machine: InstructionSet) -> None:
    for size in (1, 5, 16, 64, 128):
        for c_in, c_out in ((3, 32), (32, 64), (64, 128), (128, 130), (130, 3), (1, 1)):
            for kernel, up in ((1, False), (3, False), (4, False), (4, True)):
                if max(c_in, c_out) * size > 4096 or (kernel == 4 and not up and size % 2):
                    continue
                shape = Shape(9, size, size, c_in, c_out, kernel, up)
                assert plans.convolution(shape, machine, 2), shape
                assert plans.convolution(shape.of_input_gradient(), machine, 2), shape
                assert any(plans.weight_gradient(form, machine, 2) for form in weight_gradient_shapes(shape)), shape


@given(whole=st.integers(1, 1000), most=st.integers(1, 1200))
@many
def test_evenly(whole: int, most: int) -> None:
    part = plans.evenly(whole, most)
    parts = math.ceil(whole / part)
    assert part <= most
    assert parts == math.ceil(whole / most)  # no more of them than there must be
    assert (part - 1) * parts < whole  # and none that is larger than it must be
