"""Measure the peak of a device: multiply-adds in registers alone."""

from __future__ import annotations

import ctypes
import functools
import mmap
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Device, Tensor, TinyJit

from edgeae.runtime.compilers import find_compiler
from edgeae.runtime.cpu import link_object, load_function
from edgeae.runtime.kernels.plans import InstructionSet
from edgeae.runtime.kernels.programs import flags, instruction_set

Array = npt.NDArray[Any]

_CALLS = 12
_CPU_S = 0.2  # least time of the calls on a CPU: the scheduler takes a while to move threads that woke on one core
_STEPS = 200_000
_CHAIN, _LENGTH = 256, 1 << 20  # multiply-adds of each number, and numbers, where none of our kernels runs
_TEXT = """
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// STEPS multiply-adds to each of SUMS sums, which do not depend on one another. Numbers come from memory and go back,
// so that the compiler cannot leave the work out.
void kernel(void *at, int core)
{
    vec *numbers = at, sum[SUMS];
    const vec factor = numbers[SUMS], summand = numbers[SUMS + 1];
    _Pragma("GCC unroll 64") for (int i = 0; i < SUMS; i++) sum[i] = numbers[i];
    for (int step = 0; step < STEPS; step++)
        _Pragma("GCC unroll 64") for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * factor + summand;
    _Pragma("GCC unroll 64") for (int i = 0; i < SUMS; i++) numbers[i] = sum[i];
}
"""


def copy_to_pages(values: Array) -> Array:
    """Return a copy that starts at the beginning of a memory page, as tinygrad's buffers do."""
    copy = np.frombuffer(mmap.mmap(-1, values.nbytes), values.dtype).reshape(values.shape)
    copy[:] = values
    return copy


class Kernel:
    """A compiled kernel with its arrays.

    Args:
        code: machine code of a function `kernel(arrays…, core)`.
        arrays: that it reads and writes, in this order.
    """

    def __init__(self, code: bytes, arrays: Sequence[Array]) -> None:
        self._arrays = arrays  # kept alive
        self._function = load_function(code)
        self._pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]

    def __call__(self) -> None:
        """Run the kernel as core 0 of 1."""
        self._function(*self._pointers, 0)


@functools.cache
def peak_code(isa: InstructionSet) -> tuple[bytes, int]:
    """Return machine code of multiply-adds in registers, and its floating-point operations. Needs a compiler."""
    compiler = find_compiler()
    assert compiler is not None
    defines = {"LANES": isa.lanes, "SUMS": isa.sums, "STEPS": _STEPS}
    text = "".join(f"#define {name} {value}\n" for name, value in defines.items()) + _TEXT
    # Whatever our kernels are compiled with, the peak is that of all the compiler can do.
    return link_object(compiler.compile(text, *flags(isa), "-O2")), 2 * isa.lanes * isa.sums * _STEPS


def peak_kernel(isa: InstructionSet) -> tuple[Kernel, int]:
    """Return `peak_code` with numbers of its own, and its floating-point operations."""
    code, flop = peak_code(isa)
    return Kernel(code, [copy_to_pages(np.full((isa.sums + 2, isa.lanes), 0.5, np.float32))]), flop


def peak_flops(device: str, threads: int) -> float:
    """Return the floating-point operations a second of a device, the most of some calls.

    Args:
        device: tinygrad's name.
        threads: of a CPU, which work at the same time.
    """
    isa = instruction_set() if device == "CPU" else None
    return _measure_chain(device) if isa is None else _measure_cpu(isa, threads)


def _measure_cpu(isa: InstructionSet, threads: int) -> float:
    kernels = [peak_kernel(isa) for _ in range(threads)]
    flop = sum(work for _, work in kernels)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        begun, calls = time.perf_counter(), 0
        while calls < _CALLS or time.perf_counter() - begun < _CPU_S:
            started = time.perf_counter()
            list(pool.map(lambda one: one[0](), kernels))
            best, calls = max(best, flop / (time.perf_counter() - started)), calls + 1
    return best


def _measure_chain(device: str) -> float:
    """Measure a long chain of multiply-adds on each of many numbers, in generated code."""

    def chain(x: Tensor) -> Tensor:
        y = x
        for _ in range(_CHAIN):
            y = y * x + x
        return y.realize()

    run, x = TinyJit(chain), Tensor(np.full(_LENGTH, 0.5, np.float32), device=device).realize()
    best = 0.0
    for call in range(3 + _CALLS):
        started = time.perf_counter()
        run(x)
        Device[device].synchronize()
        if call >= 3:
            best = max(best, 2 * _CHAIN * _LENGTH / (time.perf_counter() - started))
    return best
