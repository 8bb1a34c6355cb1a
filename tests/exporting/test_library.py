"""Compiling a model: the files that it writes, what they compute, and what it refuses."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FileFactory
from helpers.libraries import LibraryFactory, random_images, wrapper
from helpers.tiers import diagonal

from edgeae.config import ARCHS
from edgeae.engine import targets, weight_text
from edgeae.errors import EdgeaeError, UsageError
from edgeae.exporting.library import compile
from edgeae.exporting.library.companions import check_name
from edgeae.inference.load import load

SCHEMES = ("none", "fp16", "int8", "int4")


@pytest.mark.parametrize("arch, scheme", diagonal(ARCHS, SCHEMES))
def test_it_gives_what_the_session_gives(
    arch: str, scheme: str, device: str, tiny_file: FileFactory, library: LibraryFactory
) -> None:
    report = library(arch, scheme, context=1, batch=1 + SCHEMES.index(scheme), threads=2)
    assert report.largest_difference is not None and report.largest_difference < 2e-5  # 16 bits are 1.5e-5
    session, model = load(tiny_file(arch, scheme, context=1), device), wrapper(report)
    x = random_images(model, 5)
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


def test_what_a_wrapper_refuses(library: LibraryFactory) -> None:
    model = wrapper(library("conv"))
    for wrong in (np.zeros((3, 3, 3), np.uint8), np.zeros((16, 16, 3)), np.zeros((16, 16), np.uint8)):
        with pytest.raises(ValueError, match="is wanted"):
            model.run(wrong)
    with pytest.raises(ValueError, match="is wanted"):
        model.decode(np.zeros(3))
    with pytest.raises(RuntimeError, match="does not fit"):
        model.interpolate(*np.zeros((2, 16, 16, 3), np.uint8), steps=1)
    assert json.loads(model.metadata())["arch"] == "conv"


def test_the_example(device: str, tiny_file: FileFactory, library: LibraryFactory, tmp_path: Path) -> None:
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


def test_a_library_shows_only_its_functions(library: LibraryFactory) -> None:
    if not shutil.which("nm"):
        pytest.skip("there is no nm")
    report = library("conv")
    listed = subprocess.run(["nm", "-D", report.library], capture_output=True, text=True, check=True).stdout
    shown = re.findall(r" [A-TV-Z] (\w+)", listed)
    header = (Path(report.library).parent / "tiny.h").read_text()
    assert sorted(set(shown) - {"_init", "_fini"}) == sorted(re.findall(r"^tiny_API .*?\*?(tiny_\w+)\(", header, re.M))
    needed = {name.split("@")[0] for name in re.findall(r" U (\w+)", listed)}
    memory = "malloc|calloc|free|mmap|munmap|madvise|posix_memalign"
    assert not {name for name in needed if not re.match(rf"pthread_|sched_|getpid|mem|{memory}|__stack_chk", name)}


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
def test_what_cannot_be_compiled(changes: dict[str, Any], message: str, library: LibraryFactory) -> None:
    with pytest.raises(UsageError, match=message):
        library("conv", **changes)


def test_a_vae_has_its_own_size(library: LibraryFactory) -> None:
    with pytest.raises(UsageError, match="takes images of 16×16 only"):
        library("vae", pixels=(32, 32))


@pytest.mark.usefixtures("c_compiler")
def test_a_name_that_is_none(tiny_file: FileFactory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        compile(tiny_file("conv"), tmp_path, name="7 faces")
    report = compile(tiny_file("conv"), tmp_path)  # conv-none-0.safetensors
    assert Path(report.library).name.startswith("libconv_none_0.")


def test_a_library_that_computes_nonsense_is_not_written(
    library: LibraryFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weight_text, "_WIDEN", weight_text._WIDEN.replace("to[c] =", "to[c * 0] ="))
    with pytest.raises(EdgeaeError, match="fails its own test"):
        library("conv", "int8")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *(
            (name, "is the name of another file")
            for name in ("example", "EXAMPLE", "README", "readme", "faces_weights")
        ),
        *((name, "is a word of the C language") for name in ("int", "struct", "class", "main", "size_t", "uint8_t")),
        *((name, "is a word of the C language") for name in ("_Bool", "__x", "NULL", "errno")),
        *((name, "cannot be the name of a C library") for name in ("", "a-b", "a.b", "1a", "a b", "é", "../a", "a\n")),
        ("x" * 62, "cannot be the name of a C library"),
        ("x" * 9999, "'xxxxxxxxxxxxxxxxxxxx…' cannot be"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_names_that_a_library_cannot_have(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_name(name)


@pytest.mark.parametrize("name", ["edgeae", "Faces", "_faces", "faces_2", "example_", "x" * 61, "integer"])
def test_names_that_a_library_can_have(name: str) -> None:
    check_name(name)
