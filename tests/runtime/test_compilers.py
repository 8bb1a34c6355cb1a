"""Finding compilers: their order, the instruction set that each reports, and their error messages."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import answer

from edgeae.errors import DeviceError
from edgeae.runtime import compilers
from edgeae.runtime.compilers import Compiler, compile_c, find_clang, find_compiler

TEXT = "float twice(float x) { return 2 * x; }\n"
KINDS = ["clang", "gcc"]


def find(kind: str) -> Compiler:
    if (path := shutil.which(kind)) is None:
        pytest.skip(f"no {kind} on PATH")
    return compilers._probe((path,), kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for PATH, with a space in its name."""
    (tmp_path / "on path").mkdir()
    return tmp_path / "on path"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# ---- a compiler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_a_compiler(kind: str) -> None:
    compiler = find(kind)
    option = "-dumpversion" if kind == "clang" else "-dumpfullversion"
    said = subprocess.run([kind, option], capture_output=True, text=True)
    assert compiler.version == said.stdout.strip()
    assert compiler.name == f"{kind} {compiler.version}"
    assert compiler.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_instruction_set_is_the_processors(kind: str) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        pytest.skip("/proc/cpuinfo lists the flags of an x86-64 processor on Linux")
    has = set(re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)[1].split())  # type: ignore[index]
    best = "avx512" if "avx512f" in has else "avx2" if {"avx2", "fma"} <= has else "plain"
    assert find(kind).isa == best


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("flags", "isa"), [((), "plain"), (("-mavx2", "-mfma"), "avx2"), (("-mavx2",), "plain"), (("-mavx512f",), "avx512")]
)
def test_the_probe_reads_what_the_flags_allow(
    kind: str, flags: tuple[str, ...], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("flags of x86-64")
    monkeypatch.setattr(compilers, "_machine_flags", lambda kind: flags)
    assert find(kind).isa == isa


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_elf_and_needs_no_library(kind: str) -> None:
    compiler = find(kind)
    copies = "void kernel(float *a, const float *b, int n) { for (int i = 0; i < n; i++) a[i] = b[i] > 0 ? b[i] : 0; }"
    code = compiler.compile(copies, "-O1")
    assert code.startswith(b"\x7fELF")
    assert b"GLOBAL_OFFSET_TABLE" not in code and b"memset" not in code
    assert compiler.compile(copies, "-O1") == code  # the same every time: no date, no path
    assert compiler.compile(copies, "-O0") != code


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_has_the_first_error(kind: str) -> None:
    with pytest.raises(DeviceError) as caught:
        find(kind).compile("int first = nothing;\nint second = none;\n")
    message = str(caught.value)
    assert re.match(rf"CPU is not usable: the C compiler \S*{kind} failed: ", message)
    assert "nothing" in message and "none" not in message and "\n" not in message
    assert message.endswith("; to mend it: pip install ziglang.")


def test_a_compiler_that_fails_silently(tmp_path: Path) -> None:
    for text, reason in (("exit 3", "exit 3"), ("exit 0", "exit 0"), ("echo oh no >&2; exit 1", "oh no")):
        with pytest.raises(DeviceError, match=f"failed: {reason}; to mend it"):
            compile_c((str(script(tmp_path / "cc", text)),), TEXT)


def test_a_compiler_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises((DeviceError, subprocess.TimeoutExpired)):
        compile_c((str(script(tmp_path / "cc", "exec sleep 60")),), TEXT, timeout_s=0.2)


# ---- which one is found ------------------------------------------------------------------------------------------

FOUND = """
from edgeae.runtime import compilers
clang, failures = compilers.find_clang()
any_ = compilers.find_compiler()
print(json.dumps([clang and clang.kind, failures, any_ and any_.kind, any_ and any_.command]))
"""
NO_ZIG = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'ziglang' else find(n)\n"


def found(folder: Path, **environment: str) -> list[object]:
    """Return what a new process finds with only `folder` on PATH: clang, failures, any compiler, and its command."""
    result = answer(NO_ZIG + FOUND, PATH=str(folder), **environment)
    assert isinstance(result, list)
    return result


def test_this_machine() -> None:
    clang, _ = find_clang()
    if clang is not None:
        assert find_compiler() == clang
    elif shutil.which("gcc"):
        assert find_compiler().kind == "gcc"  # type: ignore[union-attr]


def test_gcc_where_there_is_no_clang(folder: Path) -> None:
    find("gcc")
    for name in ("gcc", "as"):
        (folder / name).symlink_to(shutil.which(name))  # type: ignore[arg-type]
    clang, failures, kind, command = found(folder)
    assert (clang, kind, command) == (None, "gcc", [str(folder / "gcc")])
    assert failures == ["clang was not found"]


def test_clang_before_gcc(folder: Path) -> None:
    find("clang")
    (folder / "clang").symlink_to(shutil.which("clang"))  # type: ignore[arg-type]
    script(folder / "gcc", "exit 1")
    assert found(folder) == ["clang", [], "clang", ["clang"]]


def test_a_broken_gcc_is_none(folder: Path) -> None:
    script(folder / "gcc", "echo 'fatal error: cannot execute cc1' >&2; exit 1")
    assert found(folder)[2] is None
    script(folder / "gcc", "exit 0")
    assert found(folder)[2] is None


def test_no_compiler(folder: Path) -> None:
    assert found(folder) == [None, ["clang was not found"], None, None]


def test_cc_first_also_with_arguments_and_a_space_in_its_path(folder: Path) -> None:
    find("clang")
    mine = folder / "my clang"
    mine.symlink_to(shutil.which("clang"))  # type: ignore[arg-type]
    assert found(folder, CC=str(mine))[3] == [str(mine)]
    assert found(folder, CC=f'"{mine}" -O0')[3] == [str(mine), "-O0"]
    missing = folder / "none"
    assert found(folder, CC=f'"{missing}"')[:3] == [None, [f"{missing} was not found", "clang was not found"], None]


def test_kernels_run_where_gcc_is_the_only_compiler(folder: Path, tmp_path: Path) -> None:
    """gcc compiles our kernels, tinygrad's code generator the others: a training step gives NumPy's numbers."""
    find("gcc")
    if platform.machine() != "x86_64":
        pytest.skip("tinygrad's own code generator is for x86-64")
    for name in ("gcc", "as"):
        (folder / name).symlink_to(shutil.which(name))  # type: ignore[arg-type]
    code = """
import numpy as np
device = devices.resolve("CPU")
from tinygrad import Tensor
from edgeae.runtime.kernels import graph
from edgeae.runtime.kernels.shapes import Shape
rng = np.random.default_rng(0)
x, w, b, dy = (rng.normal(size=size).astype("f") for size in ((2, 5, 7, 3), (1, 1, 3, 20), (20,), (2, 5, 7, 20)))
tensors = [Tensor(array, device=device) for array in (x, w, b)]
y = graph.convolution(*tensors, None, "relu", Shape(2, 5, 7, 3, 20, 1))
dx, dw, db = (g.numpy() for g in y.gradient(*tensors, gradient=Tensor(dy, device=device)))
z = x @ w[0, 0] + b
dz = dy * (z > 0)
want = np.einsum("byxc,byxo->co", x, dz)
pairs = ((y.numpy(), np.maximum(z, 0)), (dx, dz @ w[0, 0].T), (dw[0, 0], want), (db, dz.sum((0, 1, 2))))
print(json.dumps([devices.prepare_cpu(), [float(abs(a - e).max() / abs(e).max()) for a, e in pairs]]))
"""
    result = answer(NO_ZIG + code, PATH=str(folder), EDGEAE_CACHE=str(tmp_path))
    assert isinstance(result, list)
    assert "built-in" in result[0] and len(result[1]) == 4
    assert max(result[1]) < 1e-5
