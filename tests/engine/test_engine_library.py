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
from edgeae.errors import DeviceError, ImageError, UsageError, WeightsError
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


def test_what_is_no_library_of_ours(library: LibraryFactory, tmp_path: Path) -> None:
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


def test_what_info_tells_of_a_library(library: LibraryFactory) -> None:
    report = library("residual", "int8", pixels=(48, 32), batch=2, threads=3)
    done = CliRunner().invoke(main, ["info", report.library, "--json"])
    found = json.loads(done.output)
    assert (found["architecture"], found["quantize"], found["image"]) == ("residual", "int8", "48×32, 3 → 3 channels")
    assert (found["any_size"], found["batch"], found["threads"]) == ("no, compiled for 48×32", 2, 3)
    assert found["size_bytes"] == report.size_bytes
