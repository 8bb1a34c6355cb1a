"""tinygrad's CPU device: the compiler for its kernels, its threads, and the processor's name.

tinygrad compiles CPU kernels with `clang`, or what `CC` names. `prepare_cpu` takes the first that works of `CC`,
`clang`, the clang inside the `ziglang` wheel and, on x86-64, tinygrad's own code generator, which needs no compiler.
"""

import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edgeae.errors import DeviceError, UsageError
from edgeae.failures import MENDS, Unusable, guard, import_tinygrad, reason_of

BUILT_IN = "built-in X86 code generator"

# What tinygrad 0.13.0 hands to clang (runtime/support/compiler_cpu.py).
_CLANG_FLAGS = ("-c", "-x", "c", "-O2", "-fPIC", "-ffreestanding", "-fno-math-errno", "-nostdlib", "-fno-ident")
_CLANG_TEST = 'const char edgeae_version[] = "edgeae:" __clang_version__ ";"; void edgeae_test(void) {}'


@functools.cache
def prepare_cpu(name: str = "CPU") -> str:
    """Makes tinygrad's CPU device compile with what this machine has; gives its description, such as "clang 14.0.6".

    It changes the open device object alone (its compiler, or the order of its code generators) and no environment
    variable, so it works also after tinygrad was imported. Kernels cached on disk are kept apart by version. A
    code generator that the user chose, as with DEV=CPU:LLVM, is left alone. Raises DeviceError when nothing works.
    """
    import_tinygrad()
    with guard(name):
        from tinygrad import Device
        from tinygrad.renderer.isa.x86 import X86Renderer
        from tinygrad.runtime.support.compiler_cpu import ClangJITCompiler

        device = Device[name]
        compiler = device.renderer.compiler
    if isinstance(compiler, ClangJITCompiler):
        failures = []
        for command in _clang_commands():
            try:
                version = _clang_version(command, compiler)
            except (OSError, subprocess.SubprocessError, DeviceError) as error:
                failures.append(reason_of(error))
                continue
            # tinygrad's own method takes a bare program name, and lets it write its errors to the user's terminal.
            compiler.compile_to_obj = functools.partial(_compile, command, compiler)
            if compiler.cachekey is not None:
                compiler.cachekey += f"_edgeae_{version}"
            return f"zig (clang {version})" if "zig" in Path(command[0]).name else f"clang {version}"
        if _runs_x86_renderer():
            device.renderers.sort(key=lambda renderer: renderer is not X86Renderer)
        if not isinstance(device.renderer, X86Renderer):
            raise Unusable(name, f"no C compiler works ({'; '.join(failures)})", MENDS["CPU"])
    if isinstance(device.renderer, X86Renderer):
        return BUILT_IN
    return f"{type(device.renderer).__name__.removesuffix('Renderer')} code generator"


def _clang_commands() -> list[tuple[str, ...]]:
    """The commands that may be a clang, best first: `CC`, `clang`, the `ziglang` wheel's."""
    commands: list[tuple[str, ...]] = []
    if chosen := os.environ.get("CC", "").strip():
        commands.append((chosen,) if shutil.which(chosen) else tuple(shlex.split(chosen, posix=os.name == "posix")))
    if ("clang",) not in commands:
        commands.append(("clang",))
    wheel = importlib.util.find_spec("ziglang")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        zig = folder / ("zig.exe" if os.name == "nt" else "zig")
        # `zig clang` is the clang driver itself, with clang's own flags; `zig cc` reads neither stdin nor this target.
        commands.append((str(zig), "clang", "-isystem", str(folder / "lib" / "include")))
    return commands


def _clang_version(command: tuple[str, ...], compiler: Any) -> str:
    """What the command calls itself in an object file that it compiles; raises when it cannot."""
    found = re.search(rb"edgeae:([0-9.]+)", _compile(command, compiler, _CLANG_TEST, timeout_s=30))
    return found[1].decode() if found else "of unknown version"


def _compile(command: tuple[str, ...], compiler: Any, source: str, timeout_s: float = 300) -> bytes:
    """Compiles C to an object file as tinygrad does, keeping the compiler's messages for the error."""
    target = f"--target={compiler.arch}-none-unknown-elf"
    done = subprocess.run(
        [*command, *_CLANG_FLAGS, target, *compiler.args, "-", "-o", "-"],
        input=source.encode(),
        capture_output=True,
        timeout=timeout_s,
    )
    if done.returncode or not done.stdout.startswith(b"\x7fELF"):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        message = next((line for line in said if "error" in line), said[0] if said else f"exit {done.returncode}")
        raise Unusable("CPU", f"the C compiler {command[0]} failed: {message[:200]}", MENDS["CPU"])
    return done.stdout


def _runs_x86_renderer() -> bool:
    """True on an x86-64 processor with the instructions that tinygrad's X86 code generator uses: AVX2, FMA, F16C."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = _cpuinfo("flags").split()  # macOS and Windows name them elsewhere; their machines of ten years have them
    return not flags or {"avx2", "fma", "f16c"} <= set(flags)


def processor_name() -> str:
    """The processor's model where the system tells it, else its architecture."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """A field of the first core in Linux's /proc/cpuinfo; empty on other systems."""
    file = Path("/proc/cpuinfo")
    found = re.search(rf"^{field}\s*:(.*)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1].strip() if found else ""


def set_threads(n: int | None) -> int:
    """Limits CPU kernels made from now on to `n` threads (None: CPU_COUNT, or every core this process may use).

    Returns the number in effect, also in `tinygrad.helpers.CPU_COUNT`. Kernels made before keep theirs: call it before
    the first one. It holds for the whole process, as tinygrad keeps it in classes. Raises UsageError for `n` below 1.
    """
    if n is not None and n < 1:
        raise UsageError(f"--threads {n} makes no sense: give 1 or more.")
    import_tinygrad()
    from tinygrad.helpers import CPU_COUNT
    from tinygrad.renderer.cstyle import ClangRenderer
    from tinygrad.renderer.isa.x86 import X86Renderer
    from tinygrad.renderer.llvmir import CPULLVMRenderer

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variable = os.environ.get("CPU_COUNT", "")
    count = n or (int(variable) if variable.isdecimal() and int(variable) else cores)
    CPU_COUNT.value = count
    for renderer in (ClangRenderer, CPULLVMRenderer, X86Renderer):
        renderer.global_max = (count, 0, 0)
    return count
