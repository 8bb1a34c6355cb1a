"""What a device can do at most: multiply-adds in registers alone, measured."""

from __future__ import annotations

import ctypes
import functools
import math
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
_CPU_S = 0.2  # at least, of calls on a CPU: threads that woke up on one core need some time to part
_STEPS = 200_000
_CHAIN, _LENGTH = 256, 1 << 20  # multiply-adds of each number, and numbers, where there is no kernel of our own
_TEXT = """
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// STEPS multiply-adds to each of SUMS sums, which do not wait for one another. Numbers come from memory and go back, so
// that the compiler knows nothing that would spare it the work.
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


def empty(*size: int) -> Array:
    """float32 that begins with a page, as tinygrad's buffers do; full of NaN."""
    array = np.frombuffer(mmap.mmap(-1, 4 * math.prod(size)), np.float32).reshape(size)
    array[:] = np.nan
    return array


def placed(values: Array) -> Array:
    """The values in such an array."""
    array = empty(*values.shape)
    array[:] = values
    return array


class Kernel:
    """A compiled kernel that is bound to its arrays."""

    def __init__(self, code: bytes, arrays: Sequence[Array]) -> None:
        self._arrays = arrays  # kept alive
        self._function = load_function(code)
        self._pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]

    def __call__(self) -> None:
        """Run it, as core 0 of 1."""
        self._function(*self._pointers, 0)


@functools.cache
def peak_code(isa: InstructionSet) -> tuple[bytes, int]:
    """Multiply-adds in registers, and how many floating-point operations they are. There must be a compiler."""
    compiler = find_compiler()
    assert compiler is not None
    defines = {"LANES": isa.lanes, "SUMS": isa.sums, "STEPS": _STEPS}
    text = "".join(f"#define {name} {value}\n" for name, value in defines.items()) + _TEXT
    # Whatever our kernels are compiled with, the peak is that of all the compiler can do.
    return link_object(compiler.compile(text, *flags(isa), "-O2")), 2 * isa.lanes * isa.sums * _STEPS


def peak_kernel(isa: InstructionSet) -> tuple[Kernel, int]:
    """`peak_code` with numbers of its own."""
    code, flop = peak_code(isa)
    return Kernel(code, [placed(np.full((isa.sums + 2, isa.lanes), 0.5))]), flop


def peak_flops(device: str, threads: int) -> float:
    """Floating-point operations a second, the best of some calls: of a CPU on all these threads at once."""
    isa = instruction_set() if device == "CPU" else None
    return _of_chain(device) if isa is None else _of_cpu(isa, threads)


def _of_cpu(isa: InstructionSet, threads: int) -> float:
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


def _of_chain(device: str) -> float:
    """As far as generated code goes: a long chain for each of many numbers."""

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
