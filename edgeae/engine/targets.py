"""Find a C compiler for this machine or, in the `ziglang` wheel, for another one, and build shared libraries."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeae.cache_folder import find_intruder
from edgeae.errors import DeviceError, UsageError
from edgeae.runtime.cpu import processor_name
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, InstructionSet
from edgeae.runtime.kernels.programs import optimization

NATIVE = "native"
# By name: zig's name of the target, the default processor, and the library's suffix. glibc 2.28 is of 2018; older
# processors than these have no vectors worth using.
TARGETS = {
    "x86_64-linux-gnu": ("x86_64-linux-gnu.2.28", "x86_64_v3", ".so"),
    "x86_64-linux-musl": ("x86_64-linux-musl", "x86_64_v3", ".so"),
    "aarch64-linux-gnu": ("aarch64-linux-gnu.2.28", "generic", ".so"),
    "aarch64-linux-musl": ("aarch64-linux-musl", "generic", ".so"),
    "armv7-linux-gnu": ("arm-linux-gnueabihf.2.28", "cortex_a7", ".so"),
    "armv7-linux-musl": ("arm-linux-musleabihf", "cortex_a7", ".so"),
    "aarch64-macos": ("aarch64-macos", "apple_m1", ".dylib"),
    "x86_64-macos": ("x86_64-macos", "x86_64_v3", ".dylib"),
}
ALIASES = {"x86_64-linux": "x86_64-linux-gnu", "aarch64-linux": "aarch64-linux-gnu", "armv7-linux": "armv7-linux-gnu"}

_FLAGS = (
    "-std=gnu11",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Werror=implicit-function-declaration",
    "-pthread",
)
_TIMEOUT_S = 600
_TRIAL = "#include <pthread.h>\n#include <stdlib.h>\nint edgeae_trial(pthread_t *t) { return pthread_join(*t, 0); }\n"


@dataclass(frozen=True)
class Toolchain:
    """A C compiler with the machine that it compiles for.

    Attributes:
        command: the compiler's command line, with the flags that choose the target.
        target: `native`, or a key of TARGETS.
        machine: instruction set of the kernels.
        optimization: its flag for optimization.
        processor: the target's processor, in words.
        suffix: file name extension of a shared library.
    """

    command: tuple[str, ...]
    target: str
    machine: InstructionSet
    optimization: str
    processor: str
    suffix: str

    def build(self, sources: Sequence[Path], output: Path, *flags: str) -> None:
        """Compile C files to a shared library. Raises DeviceError with the compiler's first error message."""
        strip = () if self.suffix == ".dylib" else ("-s",)
        options = (self.optimization, *_FLAGS, *flags, "-shared", *strip)
        done = _run([*self.command, *options, "-o", str(output), *map(str, sources)])
        if done.returncode or not output.exists():
            raise DeviceError(f"the C compiler {self.command[0]} failed: {_first_error(done)}")


def toolchain(target: str = NATIVE, cpu: str | None = None) -> Toolchain:
    """Find the compiler for a target.

    Args:
        target: `native`, or a key of TARGETS or ALIASES.
        cpu: the processor, as the compiler names it; None is this one, or another target's default.

    Raises:
        UsageError: an unknown target or processor.
        DeviceError: no compiler is there; the message says what to install.
    """
    target = ALIASES.get(target, target)
    if target == NATIVE:
        return _native(cpu)
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; choose native or one of {', '.join([*TARGETS, *ALIASES])}.")
    zig = _zig()
    if zig is None:
        raise DeviceError(
            'compiling for another machine takes the compiler of the ziglang package: pip install "edgeae[compiler]".'
        )
    triple, default_cpu, suffix = TARGETS[target]
    name = (cpu or default_cpu).replace("-", "_")
    command = (*zig, "-target", triple, f"-mcpu={name}")
    return Toolchain(command, target, *_ask_features(command, cpu), f"{target}, {name}", suffix)


def _native(cpu: str | None) -> Toolchain:
    suffix = ".dylib" if platform.system() == "Darwin" else ".so"
    option = "-march" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "-mcpu"
    for command in _native_commands():
        if _works(command):
            flag = f"-mcpu={(cpu or NATIVE).replace('-', '_')}" if command == _zig() else f"{option}={cpu or NATIVE}"
            full = (*command, flag)
            return Toolchain(full, NATIVE, *_ask_features(full, cpu), cpu or processor_name(), suffix)
    raise DeviceError('there is no C compiler: install clang or gcc, or pip install "edgeae[compiler]".')


def _native_commands() -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    if chosen := os.environ.get("CC", "").strip():
        commands.append(tuple(shlex.split(chosen)))
    commands += [("clang",), ("gcc",)]
    zig = _zig()
    return [*commands, zig] if zig else commands


def _zig() -> tuple[str, ...] | None:
    wheel = importlib.util.find_spec("ziglang")
    if wheel is None or wheel.origin is None:
        return None
    return str(Path(wheel.origin).parent / ("zig.exe" if os.name == "nt" else "zig")), "cc"


def _works(command: Sequence[str]) -> bool:
    """Try the compiler on a few lines: it may be installed without a C library."""
    if not shutil.which(command[0]):
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trial.c"
        source.write_text(_TRIAL)
        library = source.with_suffix(".so")
        return _run([*command, "-shared", "-fPIC", "-pthread", "-o", str(library), str(source)]).returncode == 0


def _ask_features(command: Sequence[str], cpu: str | None) -> tuple[InstructionSet, str]:
    """Return the kernels' instruction set on the compiler's processor, and the compiler's flag for optimization."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("")
        done = _run([*command, "-E", "-dM", str(source)])
    if done.returncode:
        raise UsageError(
            f"the compiler knows no processor {cpu!r}: {_first_error(done)}"
            if cpu
            else f"the C compiler {command[0]} failed: {_first_error(done)}"
        )
    defined = set(re.findall(r"^#define (\w+)", done.stdout, re.M))
    macros = {"avx512": {"__AVX512F__"}, "avx2": {"__AVX2__", "__FMA__"}, "neon": {"__aarch64__", "__ARM_NEON"}}
    name = next((name for name, needed in macros.items() if needed <= defined), "plain")
    return INSTRUCTION_SETS[name], optimization("clang" if "__clang__" in defined else "gcc")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(_choose_zig_cache() if "zig" in Path(command[0]).name else {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


@functools.cache
def _choose_zig_cache() -> dict[str, str]:
    """Return the variables that keep zig from a cache that somebody else could have filled, as in the current folder.

    Empty where zig's own choice can be trusted, with the C libraries that it has built before.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "")) / ".cache")
    usual = Path(os.environ.get("ZIG_GLOBAL_CACHE_DIR") or base / "zig")
    if usual.is_absolute() and not find_intruder(usual) and "ZIG_LOCAL_CACHE_DIR" not in os.environ:
        return {}
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    line = next((line for line in lines if "error" in line), lines[0] if lines else f"exit {done.returncode}")
    return line[:200].rstrip(".") + "."
