"""Make the C text of a kernel and compile it; machine code is kept on disk (kernel_cache.py).

A kernel's text is the constants of its plan as `#define`s, the C files of this folder that it needs, and a last
function, `kernel`, that takes the arrays of this kernel and the number of the core. It calls no library, so the object
file can be loaded as it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from edgeae._version import __version__
from edgeae.errors import UsageError
from edgeae.runtime.compilers import Compiler, find_compiler
from edgeae.runtime.cpu import link_object
from edgeae.runtime.kernel_cache import open_cache
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, NARROW, Constants, InstructionSet
from edgeae.runtime.threads import map_in_threads

_WITHOUT = {"avx2": ("-mno-avx512f",), "plain": ("-mno-avx512f", "-mno-avx")}


@dataclass(frozen=True)
class Text:
    """The C text of a kernel: `str(text)`.

    Attributes:
        function: one of `ARGUMENTS`.
        arrays: those of the function's arguments that this kernel has; the others are null pointers.
        constants: each becomes a `#define`.
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


# The arguments of each C function; `scratch` is an array on the stack of the kernel.
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
# The C file of each function, and the headers before it.
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
    """Return the C text of the optimizer's step.

    Args:
        parameters: size and weight decay of each.
        lanes: floats in a vector.
        threads: that share the work.
        betas, epsilon: of AdamW.

    Returns:
        adamw.c, and a `kernel` that takes w, m and v of each parameter, then all gradients, then the rate.
    """
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
    """Return a C function that interleaves `count` vectors: a0 a1 …, b0 b1 … become a0 b0 … a1 b1 ….

    A shuffle takes two vectors, so each result is put together one vector after the other.
    """
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
    """Return the text of a file of this folder."""
    return (Path(__file__).parent / name).read_text()


def instruction_set() -> InstructionSet | None:
    """Return the instruction set to write kernels for.

    It is the one that EDGEAE_KERNELS names, else the best that both the compiler and the processor have; None if
    kernels are switched off, or there is no compiler.

    Raises:
        UsageError: EDGEAE_KERNELS names an unknown one.
    """
    chosen = os.environ.get("EDGEAE_KERNELS", "").strip().lower()
    if chosen == "off":
        return None
    if chosen and chosen not in INSTRUCTION_SETS:
        raise UsageError(f"EDGEAE_KERNELS={chosen} is not known; choose off, {', '.join(INSTRUCTION_SETS)}.")
    compiler = find_compiler()
    return INSTRUCTION_SETS[chosen or compiler.isa] if compiler else None


def optimization(compiler: str) -> str:
    """Return the optimization flag for a kind of compiler: clang, zig or gcc.

    clang's -O1 is as fast as -O2 within 3%, and compiles in half of the time to a quarter of the code, because the C
    files say themselves what to unroll and inline. gcc fuses multiplications and additions only from -O2 on.
    """
    return "-O2" if compiler == "gcc" else "-O1"


def flags(machine: InstructionSet) -> tuple[str, ...]:
    """Return the compiler flags for an instruction set, besides those that name the processor."""
    compiler = _compiler()
    # On a processor with more than the chosen set, the rest is switched off.
    without = _WITHOUT.get(machine.name, ()) if compiler.isa in ("avx512", "avx2") else ()
    return optimization(compiler.kind), "-ffp-contract=fast", "-fno-trapping-math", *without


_gathered: ContextVar[dict[str, InstructionSet] | None] = ContextVar("_gathered", default=None)


@contextlib.contextmanager
def compiled_together() -> Iterator[None]:
    """Compile all kernels that the block uses and no cache has, in parallel, when the block ends.

    For a dry run of code that builds a graph: a second run then finds its kernels compiled. Within the block,
    `compile_text` returns no code for them.
    """
    token = _gathered.set({})
    try:
        yield
        texts = _gathered.get() or {}
    finally:
        _gathered.reset(token)
    if texts:
        codes = map_in_threads(lambda item: _compile(*item), texts.items(), os.cpu_count())
        for (text, machine), code in zip(texts.items(), codes, strict=True):
            _put(_key(text, machine), code)


def compile_text(text: str, machine: InstructionSet) -> bytes:
    """Return the machine code of a text, which begins with the kernel's function.

    Raises:
        DeviceError: the compiler fails.
    """
    from tinygrad.helpers import CCACHE

    key = _key(text, machine)
    code = open_cache().get(key) if CCACHE else None
    if code is None and (gathered := _gathered.get()) is not None:
        gathered[text] = machine
        return b""
    if code is None:
        code = _compile(text, machine)
        _put(key, code)
    return code


# Compiler, processor, flags and the whole text: whatever changes the code makes it another entry of the cache.
def _key(text: str, machine: InstructionSet) -> str:
    compiler = _compiler()
    names = [f"edgeae {__version__}", compiler.name, compiler.processor, *compiler.machine, *flags(machine)]
    return "\n".join([*names, text])


def _put(key: str, code: bytes) -> None:
    from tinygrad.helpers import CCACHE

    if CCACHE:
        open_cache().put(key, code)


def _compile(text: str, machine: InstructionSet) -> bytes:
    return link_object(_compiler().compile(text, *flags(machine)))


def _compiler() -> Compiler:
    compiler = find_compiler()
    assert compiler is not None, "there is an instruction set only with a compiler"
    return compiler
