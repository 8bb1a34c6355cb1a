"""Find a C compiler on this machine and compile with it: a clang, the clang inside the `ziglang` wheel, or gcc."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeae.runtime.guard import MENDS, Unusable, mend_for, reason_of

# For code that is loaded into memory as it is, without an operating system's loader and libraries.
_FLAGS = (
    "-c",
    "-x",
    "c",
    "-fPIC",
    "-ffreestanding",
    "-nostdlib",
    "-fno-math-errno",
    "-fno-ident",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
)
# Compiled to see that a compiler works; version and instruction set are read from the object file.
_PROBE = """
#if defined(__AVX512F__)
#define ISA "avx512"
#elif defined(__AVX2__) && defined(__FMA__)
#define ISA "avx2"
#elif defined(__ARM_NEON)
#define ISA "neon"
#else
#define ISA "plain"
#endif
const char edgeae_probe[] = "edgeae:" __VERSION__ ":" ISA ";"; void edgeae_test(void) {}
"""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that works.

    Attributes:
        command: the program and its first arguments.
        kind: clang, gcc, or zig (which contains a clang).
        version: such as "14.0.6".
        machine: flags that choose this machine's processor.
        isa: the best instruction set that it can use of this processor: avx512, avx2, neon or plain.
    """

    command: tuple[str, ...]
    kind: str
    version: str
    machine: tuple[str, ...]
    isa: str

    @property
    def name(self) -> str:
        """Name for people, such as "clang 14.0.6" or "zig (clang 19.1.7)"."""
        return f"zig (clang {self.version})" if self.kind == "zig" else f"{self.kind} {self.version}"

    def compile(self, source: str, *flags: str) -> bytes:
        """Compile C for this machine's processor; see `compile_c`."""
        return compile_c(self.command, source, *self.machine, *flags)


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(machine, machine)


def _machine_flags(kind: str) -> tuple[str, ...]:
    arch = _architecture()
    target = () if kind == "gcc" else (f"--target={arch}-none-unknown-elf",)
    if arch == "arm64":
        return *target, "-mcpu=native", "-ffixed-x18"  # x18 belongs to the system on macOS and Windows
    return (*target, "-march=native") if arch == "x86_64" else target


def compile_c(command: tuple[str, ...], source: str, *flags: str, timeout_s: float = 300) -> bytes:
    """Compile C to an ELF object file.

    Args:
        command: of the compiler.
        source: the C text.
        flags: besides those for freestanding code.
        timeout_s: in seconds.

    Raises:
        DeviceError: the compiler fails; the message holds its first complaint.
    """
    with tempfile.TemporaryDirectory() as folder:  # gcc's assembler cannot write to a pipe
        path = Path(folder) / "kernel.o"
        try:
            done = subprocess.run(
                [*command, *_FLAGS, *flags, "-", "-o", str(path)],
                input=source.encode(),
                capture_output=True,
                timeout=timeout_s,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unusable("CPU", reason_of(error), mend_for("CPU", reason_of(error))) from error
        code = path.read_bytes() if path.exists() else b""
    if done.returncode or not code.startswith(b"\x7fELF"):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        message = next((line for line in said if "error" in line), said[0] if said else f"exit {done.returncode}")
        raise Unusable("CPU", f"the C compiler {command[0]} failed: {message[:200]}", MENDS["CPU"])
    return code


def _probe(command: tuple[str, ...], kind: str) -> Compiler:
    machine = _machine_flags(kind)
    mark = re.search(rb"edgeae:([^:]*):(\w+);", compile_c(command, _PROBE, *machine, timeout_s=30))
    version = re.search(rb"\d+(\.\d+)+", mark[1]) if mark else None
    return Compiler(
        command,
        "zig" if "zig" in Path(command[0]).name else kind,
        version[0].decode() if version else "of unknown version",
        machine,
        mark[2].decode() if mark else "plain",
    )


@functools.cache
def find_clang() -> tuple[Compiler | None, tuple[str, ...]]:
    """Return the first clang that works of `CC`, `clang` and the `ziglang` wheel, and why those before it do not."""
    failures: list[str] = []
    for command in _clang_commands():
        try:
            return _probe(command, "clang"), tuple(failures)
        except Unusable as error:
            failures.append(reason_of(error))
    return None, tuple(failures)


@functools.cache
def find_compiler() -> Compiler | None:
    """Return any C compiler: the clang that tinygrad uses, else gcc, else None."""
    clang, _ = find_clang()
    if clang is None and (gcc := shutil.which("gcc")) and os.name == "posix":
        try:
            return _probe((gcc,), "gcc")
        except Unusable:
            return None
    return clang


def _clang_commands() -> list[tuple[str, ...]]:
    """Return the commands that may be a clang, best first: `CC`, `clang`, and that of the `ziglang` wheel."""
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
