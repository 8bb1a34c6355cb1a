"""Compiled libraries: what tinygrad gives, on every network and form of weights; and a C interface that holds."""

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ConfigFactory, FileFactory
from helpers import ROOT

from edgeae.cli.main import main
from edgeae.engine import plan, targets
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError, WeightsError
from edgeae.exporting.library import CompileReport, compile
from edgeae.images.files.array_io import write_image
from edgeae.inference.golden import verify
from edgeae.inference.load import load
from edgeae.network.models import build
from edgeae.runtime.kernels import winograd_plans
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS

FUZZ = ROOT / "tests" / "engine" / "fuzz.c"
SCHEMES = ("none", "fp16", "int8", "int4")

try:
    targets.toolchain()
except DeviceError as e:
    pytest.skip(str(e), allow_module_level=True)

Factory = Callable[..., CompileReport]


@pytest.fixture
def library(tiny_file: FileFactory, tmp_path: Path) -> Factory:
    """`library(arch, scheme, **more)`: a tiny network, compiled; what is not for `compile` is of the configuration."""

    def make(arch: str, scheme: str = "none", **more: Any) -> CompileReport:
        ours = {key: more.pop(key) for key in ("target", "cpu", "pixels", "batch", "threads") if key in more}
        ours |= {"size": ours.pop("pixels")} if "pixels" in ours else {}
        return compile(tiny_file(arch, scheme, **more), tmp_path / "made", name="tiny", **ours)

    return make


def wrapper(report: CompileReport, **arguments: Any) -> Any:
    """The Python that stands beside the library, as a script would use it."""
    path = Path(report.library).parent / f"edgeae_{report.name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(**arguments)


def images(model: Any, count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, model.HEIGHT, model.WIDTH, model.CHANNELS_IN), dtype=np.float32)


# ---- what it gives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_gives_what_the_session_gives(
    arch: str, scheme: str, device: str, tiny_file: FileFactory, library: Factory
) -> None:
    report = library(arch, scheme, context=1, batch=1 + SCHEMES.index(scheme), threads=2)
    assert report.largest_difference is not None and report.largest_difference < 2e-5  # 16 bits are 1.5e-5
    session, model = load(tiny_file(arch, scheme, context=1), device), wrapper(report)
    x = images(model, 5)
    bytes_ = (x * 255).astype(np.uint8)
    code = session.encode(x)
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5
    assert np.abs(model.run(bytes_).astype(int) - session.reconstruct(bytes_)).max() <= 1
    assert np.abs(model.encode(x) - code).max() < 1e-5 * max(1, np.abs(code).max())
    assert np.abs(model.decode(code, np.float32) - session.decode(code, np.float32)).max() < 1e-5
    frames = session.interpolate(bytes_[0], bytes_[1], steps=6)
    assert np.abs(model.interpolate(bytes_[0], bytes_[1], 6).astype(int) - frames).max() <= 1
    assert model.run(x[0]).shape == x[0].shape and np.array_equal(model.run(x[0]), model.run(x[:1])[0])
    assert model.selftest() < 2e-5


@pytest.mark.parametrize("scheme", ["none", "int8"])
@pytest.mark.parametrize("cpu", [None, "x86-64", "x86-64-v3"])
def test_every_instruction_set(
    cpu: str | None, scheme: str, device: str, tiny_file: FileFactory, library: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpu and os.uname().machine != "x86_64":
        pytest.skip("these are x86 processors")
    if cpu == "x86-64-v3" and " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(plan, "FACTORS", 0)  # as in a large network
    sizes: dict[str, Any] = {"widths": (16, 32), "code": 16, "size": 32}
    report = library("residual", scheme, cpu=cpu, **sizes)
    assert report.instruction_set == {"x86-64": "plain", "x86-64-v3": "avx2"}.get(cpu or "", report.instruction_set)
    text = (Path(report.library).parent / "tiny.c").read_text()
    assert f"#define FACTOR_BITS {16 if scheme == 'int8' else 32}" in text.split("// ---- the network")[0]
    session, model = load(tiny_file("residual", scheme, **sizes), device), wrapper(report)
    x = images(model, 2)
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


def test_factors_of_large_networks_are_in_16_bits(tiny_config: ConfigFactory) -> None:
    network = build(tiny_config("conv", widths=(32, 64, 128), code=32, context=1, size=64), "PYTHON")
    image, machine = (1, 64, 64, 3), INSTRUCTION_SETS["avx512"]
    made = [plan.make_plan(network, image, machine, 2, whole_weights=whole).operations for whole in (False, True)]
    floats, narrowed = ([operation for operation in operations if operation.factors] for operations in made)
    assert {operation.constants["FACTOR_BITS"] for operation in floats} == {32}
    sizes = {
        bits: [
            (operation.shape.flop / (size := math.prod(winograd_plans.factors(operation.constants))), size)
            for operation in narrowed
            if operation.constants["FACTOR_BITS"] == bits
        ]
        for bits in (16, 32)
    }
    assert sum(size for _, size in sizes[16]) / 2 + sum(size for _, size in sizes[32]) <= plan.FACTORS
    assert sum(size for _, size in sizes[16] + sizes[32]) > plan.FACTORS
    assert max(sizes[16])[0] <= min(sizes[32])[0]


def test_another_size(device: str, tiny_file: FileFactory, library: Factory) -> None:
    report = library("residual", pixels=(48, 32), batch=2, threads=3)
    session, model = load(tiny_file("residual"), device), wrapper(report)
    x = images(model, 3)
    assert x.shape[1:3] == (32, 48) and report.width == 48
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


@pytest.mark.parametrize("changes", [{"out_channels": 1}, {"in_channels": 1}, {"image_skip": False}])
def test_a_residual_that_does_not_add_the_image(
    changes: dict[str, Any], device: str, tiny_file: FileFactory, library: Factory
) -> None:
    session, model = load(tiny_file("residual", **changes), device), wrapper(library("residual", **changes))
    x = images(model, 2)
    assert np.abs(model.run(x) - session.run_floats(x)).max() < 1e-5


def test_the_number_of_threads_changes_nothing(library: Factory) -> None:
    report = library("conv", threads=3, widths=(16, 32), code=16)
    one, more = wrapper(report, threads=1), wrapper(report, threads=3)
    for count in range(1, 20):
        assert np.array_equal(one.run(images(one, count)), more.run(images(more, count)))


def test_what_a_wrapper_refuses(library: Factory) -> None:
    model = wrapper(library("conv"))
    for wrong in (np.zeros((3, 3, 3), np.uint8), np.zeros((16, 16, 3)), np.zeros((16, 16), np.uint8)):
        with pytest.raises(ValueError, match="is wanted"):
            model.run(wrong)
    with pytest.raises(ValueError, match="is wanted"):
        model.decode(np.zeros(3))
    with pytest.raises(RuntimeError, match="does not fit"):
        model.interpolate(*np.zeros((2, 16, 16, 3), np.uint8), steps=1)
    assert json.loads(model.metadata())["arch"] == "conv"


# ---- the C ---------------------------------------------------------------------------------------------------------


def built(report: CompileReport, program: Path, *flags: str, sources: tuple[Path, ...] = ()) -> Path:
    """A program of C files and the library's own source. Skips where the compiler cannot."""
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


@pytest.mark.parametrize("kind", ["address,undefined", "thread", "none"])
@pytest.mark.parametrize("name", ["conv", "residual", "vae"])
def test_the_interface_under_sanitizers(name: str, kind: str, library: Factory, tmp_path: Path) -> None:
    report = library(name, "int8" if name == "conv" else "none", batch=2 if name == "residual" else 1, threads=2)
    flags = (
        ("-DNAME_WITHOUT_THREADS".replace("NAME", "tiny"),)
        if kind == "none"
        else (f"-fsanitize={kind}", "-fno-sanitize-recover=all")
    )
    program = built(report, tmp_path / "fuzz", *flags, sources=(FUZZ,))
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 2e-5


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("compiler", ["clang", "gcc"])
def test_it_is_plain_c(compiler: str, scheme: str, library: Factory, tmp_path: Path) -> None:
    """That wants little of the caller's stack."""
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


def test_the_example(device: str, tiny_file: FileFactory, library: Factory, tmp_path: Path) -> None:
    report = library("conv")
    folder = Path(report.library).parent
    [line] = [line for line in (folder / "example.c").read_text().splitlines() if "cc -O2" in line]
    command = line.removeprefix("//").strip().replace("cc ", targets.toolchain().command[0] + " ", 1)
    subprocess.run(command, shell=True, cwd=folder, check=True)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (tmp_path / "in.ppm").write_bytes(b"P6\n16 16\n255\n" + picture.tobytes())
    subprocess.run([folder / "example", tmp_path / "in.ppm", tmp_path / "out.ppm"], check=True)
    head, pixels = (tmp_path / "out.ppm").read_bytes()[:13], (tmp_path / "out.ppm").read_bytes()[13:]
    assert head == b"P6\n16 16\n255\n"
    wanted = load(tiny_file("conv"), device).reconstruct(picture)
    assert np.abs(np.frombuffer(pixels, np.uint8).reshape(16, 16, 3).astype(int) - wanted).max() <= 1
    done = subprocess.run([folder / "example", tmp_path / "missing.ppm", "x"], capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be opened" in done.stderr


def test_a_library_shows_only_its_functions(library: Factory) -> None:
    if not shutil.which("nm"):
        pytest.skip("there is no nm")
    report = library("conv")
    listed = subprocess.run(["nm", "-D", report.library], capture_output=True, text=True, check=True).stdout
    shown = re.findall(r" [A-TV-Z] (\w+)", listed)
    header = (Path(report.library).parent / "tiny.h").read_text()
    assert sorted(set(shown) - {"_init", "_fini"}) == sorted(re.findall(r"^tiny_API .*?\*?(tiny_\w+)\(", header, re.M))
    needed = {name.split("@")[0] for name in re.findall(r" U (\w+)", listed)}
    memory = "malloc|calloc|free|mmap|munmap|madvise|posix_memalign"
    assert not {name for name in needed if not re.match(rf"pthread_|sched_|mem|{memory}|__stack_chk", name)}


# ---- other machines ------------------------------------------------------------------------------------------------


def cross(target: str) -> None:
    try:
        targets.toolchain(target)
    except DeviceError as e:
        pytest.skip(str(e))


@pytest.mark.parametrize("target", sorted({*targets.TARGETS, *targets.ALIASES}))
def test_it_compiles_for_other_machines(target: str, library: Factory) -> None:
    cross(target)
    report = library("residual", "int8", target=target)
    assert report.largest_difference is None and report.size_bytes > 10_000
    magic = Path(report.library).read_bytes()[:4]
    assert magic == (b"\xcf\xfa\xed\xfe" if "macos" in target else b"\x7fELF")


@pytest.mark.parametrize("most_factors", [plan.FACTORS, 0])
def test_an_arm_processor_gives_the_same_image(
    most_factors: int, tiny_file: FileFactory, library: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole interface, and its self-test, under an emulator."""
    monkeypatch.setattr(plan, "FACTORS", most_factors)
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("there is no qemu-aarch64")
    cross("aarch64-linux-musl")
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


# ---- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "toaster"}, "unknown target"),
        ({"pixels": (17, 16)}, "multiples"),
        ({"pixels": (0, 16)}, "multiples"),
        ({"batch": 0}, "batch must be"),
        ({"threads": 65}, "threads"),
        ({"cpu": "abacus"}, "processor"),
    ],
)
def test_what_cannot_be_compiled(changes: dict[str, Any], message: str, library: Factory) -> None:
    with pytest.raises(UsageError, match=message):
        library("conv", **changes)


def test_a_vae_has_its_own_size(library: Factory) -> None:
    with pytest.raises(UsageError, match="takes images of 16×16 only"):
        library("vae", pixels=(32, 32))


def test_a_name_that_is_none(tiny_file: FileFactory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        compile(tiny_file("conv"), tmp_path, name="7 faces")
    report = compile(tiny_file("conv"), tmp_path)  # conv-none-0.safetensors
    assert Path(report.library).name.startswith("libconv_none_0.")


def test_without_a_compiler(library: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_native_commands", list)
    monkeypatch.setattr(targets, "_zig", lambda: None)
    for target in ("native", "aarch64-linux"):
        with pytest.raises(DeviceError, match=r"edgeae\[compiler\]"):
            library("conv", target=target)


def test_a_compiler_that_fails(library: Factory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "_FLAGS", ("-there-is-no-such-flag",))
    with pytest.raises(DeviceError, match="failed"):
        library("conv")
    assert not (tmp_path / "made").exists()


def test_a_library_that_computes_nonsense_is_not_written(
    library: Factory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from edgeae.exporting.library import source

    monkeypatch.setattr(source, "_WIDEN", source._WIDEN.replace("to[c] =", "to[c * 0] ="))
    with pytest.raises(EdgeaeError, match="fails its own test"):
        library("conv", "int8")
    assert not (tmp_path / "made").exists()


# ---- as a session ----------------------------------------------------------------------------------------------------


def test_a_library_is_a_session(
    arch: str, device: str, tiny_file: FileFactory, library: Factory, tmp_path: Path
) -> None:
    report = library(arch, "int8", golden=True)
    ours, theirs = load(report.library), load(tiny_file(arch, "int8"), device)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    for image in (x, x[0], (x / np.float32(255)).astype(np.float32)):
        found, wanted = ours.reconstruct(image), theirs.reconstruct(image)
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        assert np.abs(found.astype(float) - wanted).max() <= (1 if image.dtype == np.uint8 else 1e-5)
    write_image(x[0], tmp_path / "a.png")
    picture = ours.reconstruct(tmp_path / "a.png")
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(theirs.reconstruct(tmp_path / "a.png"))).max() <= 1
    code = theirs.encode(x)
    assert np.allclose(ours.encode(x), code, atol=1e-5 * max(1, np.abs(code).max()))
    assert np.abs(ours.decode(code).astype(int) - theirs.decode(code)).max() <= 1
    assert ours.decode(code[0], np.float32).shape == (16, 16, 3)
    found, wanted = (session.interpolate(x[0], x[1], steps=5) for session in (ours, theirs))
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert verify(ours).passed and ours.config == theirs.config and "compiled" in repr(ours)
    if arch == "vae":
        assert np.abs(ours.sample(3).astype(int) - theirs.sample(3)).max() <= 1
        with pytest.raises(UsageError, match="has no posterior"):
            ours.posterior(x)
    else:
        with pytest.raises(ImageError, match="compiled for 16×16"):
            ours.reconstruct(np.zeros((32, 16, 3), np.uint8))
    with pytest.raises(UsageError, match="does not fit"):
        ours.decode(np.zeros(3))


def test_a_compiled_residual_walks_linearly(library: Factory) -> None:
    session = load(library("residual").library)
    x = np.zeros((16, 16, 3), np.uint8)
    for arguments in ({"path": "slerp"}, {"steps": 1}):
        with pytest.raises(UsageError):
            session.interpolate(x, x, **arguments)
    with pytest.raises(UsageError, match="from one image to another"):
        session.interpolate(x, x, x)


def test_threads_may_share_a_session(library: Factory) -> None:
    session = load(library("conv").library, threads=2)
    x = np.random.default_rng(0).random((8, 16, 16, 3), dtype=np.float32)
    wanted = session.reconstruct(x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: session.reconstruct(x[i % 8]), range(200)))
    assert all(np.array_equal(image, wanted[i % 8]) for i, image in enumerate(found))


def test_what_is_no_library_of_ours(library: Factory, tmp_path: Path) -> None:
    (tmp_path / "empty.so").write_bytes(b"")
    (tmp_path / "forged.so").write_bytes(b"edgeae library tiny 1\0{}\0")
    (tmp_path / "nested.so").write_bytes(b"edgeae library tiny 1\0{" + b"[" * 100_000 + b"}\0")
    for name, message in (
        ("missing.so", "cannot be read"),
        ("empty.so", "is no library"),
        ("forged.so", "configuration"),
        ("nested.so", "damaged"),
    ):
        with pytest.raises(WeightsError, match=message):
            load(tmp_path / name)
    report = library("conv")
    data = Path(report.library).read_bytes()
    (tmp_path / "text.so").write_bytes(data[data.index(b"edgeae library") :])
    with pytest.raises(DeviceError, match=r"text\.so cannot be loaded here"):
        load(tmp_path / "text.so")
    with pytest.raises(UsageError, match="runs on the CPU"):
        load(report.library, device="CUDA")
    assert load(report.library, device="auto").device == "CPU"


def test_what_info_tells_of_a_library(library: Factory) -> None:
    report = library("residual", "int8", pixels=(48, 32), batch=2, threads=3)
    done = CliRunner().invoke(main, ["info", report.library, "--json"])
    found = json.loads(done.output)
    assert (found["architecture"], found["quantize"], found["image"]) == ("residual", "int8", "48×32, 3 → 3 channels")
    assert (found["any_size"], found["batch"], found["threads"]) == ("no, compiled for 48×32", 2, 3)
    assert found["size_bytes"] == report.size_bytes
