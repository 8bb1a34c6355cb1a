"""Set up tinygrad's CPU device: the compiler for its kernels, its threads, and loading machine code.

By itself tinygrad compiles CPU kernels with `clang`, or what `CC` names. `prepare_cpu` makes it use the first that
works of: `CC`, `clang`, the clang inside the `ziglang` wheel and, on x86-64, tinygrad's own code generator, which needs
no compiler.
"""

import functools
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeae.errors import UsageError
from edgeae.runtime import workers
from edgeae.runtime.compilers import compile_c, find_clang
from edgeae.runtime.guard import Unusable, import_tinygrad, mend_for
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

BUILT_IN = "built-in X86 code generator"


@functools.cache
def prepare_cpu(name: str = "CPU") -> str:
    """Make tinygrad's CPU device compile with what this machine has.

    Only the open device object changes (its compiler, or the order of its code generators) and no environment variable,
    so this works after tinygrad was imported, too. The disk cache keeps kernels of different compilers apart. A code
    generator that the user chose, as with DEV=CPU:LLVM, is left as it is.

    Returns:
        The compiler's description, such as "clang 14.0.6".

    Raises:
        DeviceError: no compiler works.
    """
    import_tinygrad()
    with TINYGRAD.turn, tinygrad_on(name):
        from tinygrad import Device
        from tinygrad.renderer.isa.x86 import X86Renderer
        from tinygrad.runtime.support.compiler_cpu import ClangJITCompiler

        device = Device[name]
        compiler = device.renderer.compiler
        if isinstance(compiler, ClangJITCompiler):
            clang, failures = find_clang()
            if clang is not None:
                # tinygrad's own method takes only the name of a program, whose errors it lets go to the terminal.
                flags = ("-O2", f"--target={compiler.arch}-none-unknown-elf", *compiler.args)
                compiler.compile_to_obj = lambda source: compile_c(clang.command, source, *flags)
                if compiler.cachekey is not None:
                    compiler.cachekey += f"_edgeae_{clang.version}_{clang.processor}"
                return clang.name
            if _runs_x86_renderer():
                device.renderers.sort(key=lambda renderer: renderer is not X86Renderer)
            if not isinstance(device.renderer, X86Renderer):
                reason = f"no C compiler works ({'; '.join(failures)})"
                raise Unusable(name, reason, mend_for(name, reason))
        if isinstance(device.renderer, X86Renderer):
            return BUILT_IN
        return f"{type(device.renderer).__name__.removesuffix('Renderer')} code generator"


def _runs_x86_renderer() -> bool:
    """Return whether the processor has what tinygrad's X86 code generator uses: x86-64 with AVX2, FMA and F16C."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = _cpuinfo("flags").split()  # empty on macOS and Windows, whose machines have had them for ten years
    return not flags or {"avx2", "fma", "f16c"} <= set(flags)


def processor_name() -> str:
    """Return the name of the processor, or of the Raspberry Pi; its architecture where the system tells no name."""
    return _cpuinfo("model name") or _cpuinfo("Model") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """Return a field of the first core in Linux's /proc/cpuinfo; empty on other systems."""
    file = Path("/proc/cpuinfo")
    match = re.search(rf"^{field}\s*:(.*)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return match[1].strip() if match else ""


def set_threads(n: int | None) -> int:
    """Set the number of threads of CPU kernels.

    It holds for the whole process, since tinygrad keeps it in classes, and for kernels made from now on: call it before
    the first one.

    Args:
        n: number of threads; None takes the environment variable CPU_COUNT, or all cores that this process may use.

    Returns:
        The number in effect.

    Raises:
        UsageError: `n` is below 1.
    """
    if n is not None and n < 1:
        raise UsageError(f"`threads` {n} makes no sense: give 1 or more.")
    import_tinygrad()
    from tinygrad.helpers import CPU_COUNT
    from tinygrad.renderer.cstyle import ClangRenderer
    from tinygrad.renderer.isa.x86 import X86Renderer
    from tinygrad.renderer.llvmir import CPULLVMRenderer

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variable = os.environ.get("CPU_COUNT", "")
    count = n or (int(variable) if variable.isdecimal() and int(variable) else cores)
    with TINYGRAD.lock:
        CPU_COUNT.value = count
        for renderer in (ClangRenderer, CPULLVMRenderer, X86Renderer):
            renderer.global_max = (count, 0, 0)
        workers.place_all()
    return count


# ---- machine code ------------------------------------------------------------------------------------------------


def link_object(object_file: bytes) -> bytes:
    """Return the machine code of an ELF object file, relocated so that it runs at any address."""
    from tinygrad.runtime.support.elf import jit_loader

    return bytes(jit_loader(object_file))


def load_function(code: bytes) -> Callable[..., None]:
    """Load machine code into executable memory and return its first function, which takes ctypes arguments."""
    from tinygrad import Device
    from tinygrad.runtime.ops_cpu import CPUProgram

    with TINYGRAD.turn, tinygrad_on("CPU"):
        program = CPUProgram(Device["CPU"], "kernel", code)

    def call(*arguments: Any) -> None:
        program.fxn(*arguments)  # `program` owns the memory, so it has to live as long as the function

    return call
