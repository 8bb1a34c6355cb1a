"""The C source of a compiled network: right on every instruction set, and sound under sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, FileFactory
from helpers.libraries import LibraryFactory, random_images, require_target, wrapper
from helpers.tiers import diagonal, exhaustive

from edgeae.engine import plan, targets
from edgeae.exporting.library import CompileReport
from edgeae.inference.load import load

FUZZ = ROOT / "tests" / "engine" / "fuzz.c"


@pytest.mark.parametrize("cpu, scheme", diagonal([None, "x86-64", "x86-64-v3"], ["none", "int8"]))
def test_every_instruction_set(
    cpu: str | None,
    scheme: str,
    device: str,
    tiny_file: FileFactory,
    library: LibraryFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if cpu and os.uname().machine != "x86_64":
        pytest.skip("these are x86 processors")
    if cpu == "x86-64-v3" and " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(plan, "MAX_FACTOR_FLOATS", 0)  # as in a large network
    sizes: dict[str, Any] = {"widths": (16, 32), "code": 16, "size": 32}
    report = library("residual", scheme, cpu=cpu, **sizes)
    assert report.instruction_set == {"x86-64": "plain", "x86-64-v3": "avx2"}.get(cpu or "", report.instruction_set)
    text = (Path(report.library).parent / "tiny.c").read_text()
    assert f"#define FACTOR_BITS {16 if scheme == 'int8' else 32}" in text.split("// ---- the network")[0]
    session, model = load(tiny_file("residual", scheme, **sizes), device), wrapper(report)
    x = random_images(model, 2)
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


def test_another_size(device: str, tiny_file: FileFactory, library: LibraryFactory) -> None:
    report = library("residual", pixels=(48, 32), batch=2, threads=3)
    session, model = load(tiny_file("residual"), device), wrapper(report)
    x = random_images(model, 3)
    assert x.shape[1:3] == (32, 48) and report.width == 48
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


@pytest.mark.parametrize("changes", [{"out_channels": 1}, {"in_channels": 1}, {"image_skip": False}])
def test_a_residual_that_does_not_add_the_image(
    changes: dict[str, Any], device: str, tiny_file: FileFactory, library: LibraryFactory
) -> None:
    session, model = load(tiny_file("residual", **changes), device), wrapper(library("residual", **changes))
    x = random_images(model, 2)
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


def test_the_number_of_threads_changes_nothing(library: LibraryFactory) -> None:
    report = library("conv", threads=3, widths=(16, 32), code=16)
    one, more = wrapper(report, threads=1), wrapper(report, threads=3)
    for count in range(1, 20):
        assert np.array_equal(one.run(random_images(one, count)), more.run(random_images(more, count)))


def build_program(report: CompileReport, program: Path, *flags: str, sources: tuple[Path, ...] = ()) -> Path:
    """Compile a program of C files and the library's own source. Skips where the compiler cannot."""
    folder = Path(report.library).parent
    command = [
        *targets.toolchain().command,
        "-std=gnu11",
        "-O1",
        "-g",
        f"-I{folder}",
        "-pthread",
        *flags,
        "-o",
        str(program),
        *map(str, sources),
        str(folder / "tiny.c"),
        str(folder / "tiny_weights.c"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "-fsanitize" in " ".join(flags):
        pytest.skip(f"this compiler has no sanitizer: {done.stderr.strip().splitlines()[-1][:80]}")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("name, kind", diagonal(["conv", "vae", "residual"], ["address,undefined", "thread", "none"]))
def test_the_interface_under_sanitizers(name: str, kind: str, library: LibraryFactory, tmp_path: Path) -> None:
    report = library(name, "int8" if name == "conv" else "none", batch=2 if name == "residual" else 1, threads=2)
    flags = (
        ("-DNAME_WITHOUT_THREADS".replace("NAME", "tiny"),)
        if kind == "none"
        else (f"-fsanitize={kind}", "-fno-sanitize-recover=all")
    )
    program = build_program(report, tmp_path / "fuzz", *flags, sources=(FUZZ,))
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 2e-5


@pytest.mark.parametrize("compiler, scheme", diagonal(["clang", "gcc"], ["int8", "int4"]))
def test_it_is_plain_c(compiler: str, scheme: str, library: LibraryFactory, tmp_path: Path) -> None:
    """Strict compilers accept the source, and no function takes more than 14 kB of stack."""
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    report = library("residual", scheme, widths=(16, 32), code=16, size=32)
    folder = Path(report.library).parent
    native = "-march=native" if os.uname().machine == "x86_64" else "-mcpu=native"
    done = subprocess.run(
        [
            compiler,
            native,
            "-std=gnu11",
            "-O1",
            "-c",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Wframe-larger-than=14000",
            "-Werror",
            "-ffp-contract=fast",
            str(folder / "tiny.c"),
            "-o",
            str(tmp_path / "tiny.o"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[:2000]


@exhaustive  # zig makes a C library for the target first
@pytest.mark.parametrize("most_factors", [plan.MAX_FACTOR_FLOATS, 0])
def test_an_arm_processor_gives_the_same_image(
    most_factors: int, tiny_file: FileFactory, library: LibraryFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-test passes under an emulator."""
    monkeypatch.setattr(plan, "MAX_FACTOR_FLOATS", most_factors)
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("there is no qemu-aarch64")
    require_target("aarch64-linux-musl")
    report = library("residual", "int8", target="aarch64-linux-musl", widths=(16, 32), code=16)
    assert report.instruction_set == "neon"
    folder, tools = Path(report.library).parent, targets.toolchain("aarch64-linux-musl")
    program = tmp_path / "selftest"
    (tmp_path / "main.c").write_text(
        '#include "tiny.h"\n#include <stdio.h>\nint main(void) { float largest = 1;\n'
        'int code = tiny_selftest(&largest); printf("%g\\n", largest); return code; }\n'
    )
    done = subprocess.run(
        [
            *tools.command,
            "-std=gnu11",
            "-O2",
            "-static",
            f"-I{folder}",
            "-o",
            str(program),
            str(tmp_path / "main.c"),
            str(folder / "tiny.c"),
            str(folder / "tiny_weights.c"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([qemu, str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and float(done.stdout) < 2e-5
