"""The C text of a kernel, and its machine code: compiled once, then read from tinygrad's cache on disk.

The whole text is made here: the constants of the plan as `#define`s, the files beside this one, and a last function
that takes the arrays which this kernel has. It needs no library, so that the object file can be loaded as it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from edgeae.errors import UsageError
from edgeae.runtime.compilers import Compiler, find_compiler
from edgeae.runtime.cpu import link_object
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, NARROW, Constants, InstructionSet

_WITHOUT = {"avx2": ("-mno-avx512f",), "plain": ("-mno-avx512f", "-mno-avx")}
_CACHE = "edgeae_kernels"


@dataclass(frozen=True)
class Text:
    """A kernel in C.

    Attributes:
        function: one of `ARGUMENTS`.
        arrays: the ones of its arguments that it is given, in order.
        constants: a `#define` each.
    """

    function: str
    arrays: tuple[str, ...]
    constants: Constants

    def __str__(self) -> str:
        file, headers = FILES[self.function]
        defaults = {"ACTIVATION": "NO_ACTIVATION", "GRADIENT_OF": "NO_ACTIVATION", "FACTOR_BITS": 32}
        parts = ["".join(f"#define {name} {value}\n" for name, value in (defaults | self.constants).items())]
        for name in (*headers, file):
            if name == "transpose.h":
                counts = {2, int(self.constants["C_OUT"])}
                parts += [interleave(n, int(self.constants["LANES"])) for n in counts if n <= NARROW]
            parts.append(read_text(name))
        parameters = ", ".join(f"void *{name}" for name in self.arrays)
        known = (*self.arrays, "scratch")
        arguments = ", ".join(name if name in known else "0" for name in ARGUMENTS[self.function])
        scratch = "    float scratch[SCRATCH];\n" if "scratch" in ARGUMENTS[self.function] else ""
        entry = f"void kernel({parameters}, int core)\n{{\n{scratch}    {self.function}({arguments}, core);\n}}\n"
        return "\n".join([*parts, entry])


ARGUMENTS = {
    "convolution": ("out", "x", "w", "scale", "bias", "add", "y", "scratch"),
    "narrow": ("out", "x", "w", "scale", "bias", "add", "scratch"),
    "winograd": ("out", "x", "w", "scale", "bias", "add", "y", "scratch"),
    "winograd_weights": ("u", "w", "scale"),
    "swap": ("swapped", "w"),
    "weight_gradient": ("dw", "db", "big", "small", "y"),
    "winograd_gradient": ("du", "db", "big", "small", "y"),
    "winograd_weights_gradient": ("dw", "du"),
}
FILES = {
    "convolution": ("convolution.c", ("vectors.h", "weights.h", "tile.h")),
    "narrow": ("narrow.c", ("vectors.h", "weights.h", "transpose.h")),
    "winograd": ("winograd.c", ("vectors.h", "weights.h", "tile.h", "winograd.h")),
    "winograd_weights": ("winograd_weights.c", ("vectors.h", "weights.h", "transpose.h", "winograd.h")),
    "swap": ("swap.c", ("vectors.h", "transpose.h")),
    "weight_gradient": ("weight_gradient.c", ("vectors.h", "outer.h")),
    "winograd_gradient": ("winograd_gradient.c", ("vectors.h", "winograd.h", "outer.h")),
    "winograd_weights_gradient": ("winograd_weights.c", ("vectors.h", "weights.h", "transpose.h", "winograd.h")),
}


def adamw_text(
    parameters: Sequence[tuple[int, float]], lanes: int, threads: int, betas: tuple[float, float], epsilon: float
) -> str:
    """adamw.c for parameters of these sizes and weight decays. Its function takes each one's w, m and v; all gradients
    in the same order; and the rate."""
    constants = {
        "LANES": lanes,
        "THREADS": threads,
        "BETA1": f"{betas[0]}f",
        "BETA2": f"{betas[1]}f",
        "EPSILON": f"{epsilon}f",
        "ACTIVATION": 0,
        "GRADIENT_OF": 0,
    }
    defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    numbers = range(len(parameters))
    names = [f"{kind}{i}" for i in numbers for kind in "wmv"] + [f"g{i}" for i in numbers]
    rows = "".join(
        f"        {{w{i}, m{i}, v{i}, g{i}, {size}, {decay}f}},\n" for i, (size, decay) in enumerate(parameters)
    )
    entry = (
        f"void kernel({', '.join(f'void *{name}' for name in names)}, void *rate, int core)\n{{\n"
        f"    const parameter all[] = {{\n{rows}    }};\n    adamw(all, {len(parameters)}, rate, core);\n}}\n"
    )
    return "\n".join([defines, read_text("vectors.h"), read_text("adamw.c"), entry])


def interleave(count: int, lanes: int) -> str:
    """A function that turns `count` vectors a0 a1 …, b0 b1 … into a0 b0 … a1 b1 …, by shuffles of two at a time."""
    lines = []
    for j in range(count):
        places = [divmod(j * lanes + lane, count) for lane in range(lanes)]  # (index in the vector, which vector)
        vector = "u[0]"
        for other in range(1, count):
            kept = [index if other == 1 else lane for lane, (index, _) in enumerate(places)]
            chosen = [lanes + index if which == other else kept[lane] for lane, (index, which) in enumerate(places)]
            vector = f"SHUFFLE({vector}, u[{other}], {', '.join(map(str, chosen))})"
        lines.append(f"    v[{j}] = {vector};\n")
    copies = f"    vec u[{count}];\n    UNROLL for (int i = 0; i < {count}; i++) u[i] = v[i];\n"
    return f"INLINE void interleave_{count}(vec *v)\n{{\n{copies}{''.join(lines)}}}\n"


@functools.cache
def read_text(name: str) -> str:
    """One of the files beside this one."""
    return (Path(__file__).parent / name).read_text()


def instruction_set() -> InstructionSet | None:
    """What kernels are written for: the best that the compiler and the processor have, or what EDGEAE_KERNELS names.

    None where kernels are switched off, or there is no compiler for them. Raises UsageError for an unknown name.
    """
    chosen = os.environ.get("EDGEAE_KERNELS", "").strip().lower()
    if chosen == "off":
        return None
    if chosen and chosen not in INSTRUCTION_SETS:
        raise UsageError(f"EDGEAE_KERNELS={chosen} is not known; choose off, {', '.join(INSTRUCTION_SETS)}.")
    compiler = find_compiler()
    return INSTRUCTION_SETS[chosen or compiler.isa] if compiler else None


def optimization(compiler: str) -> str:
    """The flag for a kind of compiler.

    With clang -O1 is as fast as -O2 within 3%, and compiles in half of the time to a quarter of the code: the C files
    say themselves what is unrolled and inlined. gcc fuses multiplications with additions from -O2 on only.
    """
    return "-O2" if compiler == "gcc" else "-O1"


def flags(machine: InstructionSet) -> tuple[str, ...]:
    """What the compiler is told beside the processor's name."""
    compiler = _compiler()
    without = _WITHOUT.get(machine.name, ()) if compiler.isa in ("avx512", "avx2") else ()
    return optimization(compiler.kind), "-ffp-contract=fast", "-fno-trapping-math", *without


_gathered: ContextVar[dict[str, InstructionSet] | None] = ContextVar("_gathered", default=None)


@contextlib.contextmanager
def compiled_together() -> Iterator[None]:
    """Kernels that the block asks for and that no cache has are compiled behind it, on every core.

    For a dry run of what builds a graph, whose second run then finds its kernels compiled.
    """
    token = _gathered.set({})
    try:
        yield
        texts = _gathered.get() or {}
    finally:
        _gathered.reset(token)
    if texts:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            codes = pool.map(lambda item: _compile(*item), texts.items())
            for (text, machine), code in zip(texts.items(), codes, strict=True):
                _put(_key(text, machine), code)


def compile_text(text: str, machine: InstructionSet) -> bytes:
    """Machine code that begins with the kernel's function. Raises DeviceError when the compiler fails."""
    from tinygrad.helpers import CCACHE, diskcache_get

    key = _key(text, machine)
    code: bytes | None = diskcache_get(_CACHE, key) if CCACHE else None
    if code is None and (gathered := _gathered.get()) is not None:
        gathered[text] = machine
        return b""
    if code is None:
        code = _compile(text, machine)
        _put(key, code)
    return code


def _key(text: str, machine: InstructionSet) -> str:
    compiler = _compiler()
    return "\n".join([compiler.name, *compiler.machine, *flags(machine), text])


def _put(key: str, code: bytes) -> None:
    from tinygrad.helpers import CCACHE, diskcache_put

    if CCACHE:
        diskcache_put(_CACHE, key, code)


def _compile(text: str, machine: InstructionSet) -> bytes:
    return link_object(_compiler().compile(text, *flags(machine)))


def _compiler() -> Compiler:
    compiler = find_compiler()
    assert compiler is not None, "there is an instruction set only with a compiler"
    return compiler
