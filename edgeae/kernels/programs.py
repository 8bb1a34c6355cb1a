"""The C text of a kernel, and its machine code: compiled once, then read from tinygrad's cache on disk.

The whole text is made here: the constants of the plan as `#define`s, the files beside this one, and a last function
that takes the arrays which this kernel has. It needs no library, so that the object file can be loaded as it is.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from edgeae.compilers import find_compiler
from edgeae.errors import UsageError
from edgeae.kernels.plans import INSTRUCTION_SETS, Constants, InstructionSet

# -O1 is as fast as -O2 and compiles in a third of the time: the C files say themselves what is unrolled and inlined.
FLAGS = ("-O1", "-ffp-contract=fast", "-fno-trapping-math")
_WITHOUT = {"avx2": ("-mno-avx512f",), "plain": ("-mno-avx512f", "-mno-avx")}
_CACHE = "edgeae_kernels"


@dataclass(frozen=True)
class Text:
    """A kernel in C.

    Attributes:
        file: which of the C files.
        arrays: the ones of its function's arguments that it is given, in order.
        constants: a `#define` each.
    """

    file: str
    arrays: tuple[str, ...]
    constants: Constants

    def __str__(self) -> str:
        defines = "".join(f"#define {name} {value}\n" for name, value in self.constants.items())
        parameters = ", ".join(f"void *{name}" for name in self.arrays)
        arguments = ", ".join(name if name in self.arrays else "0" for name in ARGUMENTS[self.file])
        entry = f"void kernel({parameters}, int core)\n{{\n    {self.file}({arguments}, core);\n}}\n"
        return defines + "".join(_read(name) for name in (*_HEADERS[self.file], f"{self.file}.c")) + "\n" + entry


ARGUMENTS = {
    "convolution": ("out", "x", "w", "scale", "bias", "add", "y"),
    "narrow": ("out", "x", "w", "scale", "bias", "add"),
    "weight_gradient": ("dw", "db", "big", "small", "y"),
}
_HEADERS = {
    "convolution": ("vectors.h", "weights.h"),
    "narrow": ("vectors.h", "weights.h"),
    "weight_gradient": ("vectors.h",),
}


@functools.cache
def _read(name: str) -> str:
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


def flags(machine: InstructionSet) -> tuple[str, ...]:
    """What the compiler is told beside the processor, to stay within an instruction set."""
    compiler = find_compiler()
    is_x86 = compiler is not None and compiler.isa in ("avx512", "avx2")
    return FLAGS + _WITHOUT.get(machine.name, ()) if is_x86 else FLAGS


def compile_text(text: str, machine: InstructionSet) -> bytes:
    """Machine code that begins with the kernel's function. Raises DeviceError when the compiler fails."""
    from tinygrad.helpers import CCACHE, diskcache_get, diskcache_put
    from tinygrad.runtime.support.elf import jit_loader

    compiler = find_compiler()
    assert compiler is not None, "there is an instruction set only with a compiler"
    options = flags(machine)
    key = "\n".join([compiler.name, *compiler.machine, *options, text])
    code: bytes | None = diskcache_get(_CACHE, key) if CCACHE else None
    if code is None:
        code = bytes(jit_loader(compiler.compile(text, *options)))
        if CCACHE:
            diskcache_put(_CACHE, key, code)
    return code
