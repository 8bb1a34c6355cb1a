"""A compiled library as the engine of a session."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import FileFactory
from helpers.libraries import LibraryFactory

import edgeae
from edgeae.cli.main import main
from edgeae.engine.shared_object import this_machine
from edgeae.errors import DeviceError, ImageError, UsageError
from edgeae.images.files.array_io import write_image
from edgeae.inference.golden import verify
from edgeae.inference.load import load


def test_a_library_is_a_session(
    arch: str, device: str, tiny_file: FileFactory, library: LibraryFactory, tmp_path: Path
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
    assert (
        verify(ours).passed
        and ours.config == theirs.config
        and repr(ours) == f"<edgeae.Session {arch} 16×16, compiled>"
    )
    assert isinstance(ours, edgeae.Session) and (ours.width, ours.height) == (16, 16)
    if arch == "vae":
        assert np.abs(ours.sample(3).astype(int) - theirs.sample(3)).max() <= 1
        with pytest.raises(UsageError, match="has no posterior"):
            ours.posterior(x)
    else:
        with pytest.raises(ImageError, match="compiled for 16×16"):
            ours.reconstruct(np.zeros((32, 16, 3), np.uint8))
    with pytest.raises(UsageError, match="does not fit"):
        ours.decode(np.zeros(3))


def test_a_compiled_residual_walks_linearly(library: LibraryFactory) -> None:
    session = load(library("residual").library)
    x = np.zeros((16, 16, 3), np.uint8)
    for arguments in ({"path": "slerp"}, {"steps": 1}):
        with pytest.raises(UsageError):
            session.interpolate(x, x, **arguments)
    with pytest.raises(UsageError, match="from one image to another"):
        session.interpolate(x, x, x)


def test_threads_may_share_a_session(library: LibraryFactory) -> None:
    session = load(library("conv").library, threads=2)
    x = np.random.default_rng(0).random((8, 16, 16, 3), dtype=np.float32)
    wanted = session.reconstruct(x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: session.reconstruct(x[i % 8]), range(200)))
    assert all(np.array_equal(image, wanted[i % 8]) for i, image in enumerate(found))


def test_what_a_library_runs_on(library: LibraryFactory, tmp_path: Path) -> None:
    report = library("conv")
    with pytest.raises(UsageError, match="runs on the CPU"):
        load(report.library, device="CUDA")
    assert load(report.library, device="auto").device == "CPU"
    other = bytearray(Path(report.library).read_bytes())
    other[18:20] = (243).to_bytes(2, "little")  # the processor, in an ELF header
    (tmp_path / "other.so").write_bytes(other)
    if this_machine().kind == "ELF":
        with pytest.raises(DeviceError, match=r"other\.so is for RISC-V \(Linux, 64 bits\), and this is .*compile"):
            load(tmp_path / "other.so")


def test_what_info_tells_of_a_library(library: LibraryFactory) -> None:
    report = library("residual", "int8", pixels=(48, 32), batch=2, threads=3)
    done = CliRunner().invoke(main, ["info", report.library, "--json"])
    found = json.loads(done.output)
    assert (found["architecture"], found["quantize"], found["image"]) == ("residual", "int8", "48×32, 3 → 3 channels")
    assert (found["any_size"], found["batch"], found["threads"]) == ("no, compiled for 48×32", 2, 3)
    assert found["size_bytes"] == report.size_bytes
