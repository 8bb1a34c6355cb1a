"""IDX, .npy and .npz files: valid ones against arrays written by NumPy or by hand, hostile ones give DataError."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeae.data import array_files
from edgeae.data.datasets import open_dataset
from edgeae.errors import DataError


def idx_bytes(shape: tuple[int, ...], pixels: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + pixels


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 9, 11), dtype=np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_holds_the_pixels_that_numpy_wrote(tmp_path: Path, pixels: np.ndarray, packed: bool) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    with path.open("wb") as file:
        file.write(struct.pack(">IIII", 0x00000803, 5, 9, 11))  # MNIST's magic number
        pixels.tofile(file)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))  # recognized by content: the name has no .gz
    np.testing.assert_array_equal(array_files.read_idx(path), pixels)


def test_idx_with_colour(tmp_path: Path) -> None:
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    (tmp_path / "a").write_bytes(idx_bytes(images.shape, images.tobytes()))
    np.testing.assert_array_equal(array_files.read_idx(tmp_path / "a"), images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a dataset"),
        (b"\x89PNG\r\n\x1a\n", "not a dataset"),
        (b"\x00\x00\x08\x00", "not a dataset"),
        (b"\x00\x00\x08\xff" + bytes(2000), "not a dataset"),
        (idx_bytes((5,), bytes(5)), "labels"),
        (idx_bytes((2, 8, 8), bytes(512), kind=0x0D), "type 0x0d"),
        (idx_bytes((2, 8), bytes(16)), "2 dimensions"),
        (idx_bytes((2, 8, 8), bytes(128))[:12], "inside its header"),
        (idx_bytes((3, 8, 8), bytes(128)), "more than the file can hold"),
        (idx_bytes((2**32 - 1,) * 3, b""), "more than the file can hold"),
        (idx_bytes((2, 8, 8), bytes(129)), "more pixels"),
        (gzip.compress(idx_bytes((2**32 - 1,) * 4, b""), mtime=0), "more than the file can hold"),
        (gzip.compress(idx_bytes((3, 8, 8), bytes(128)), mtime=0), "fewer pixels"),
        (gzip.compress(idx_bytes((2, 8, 8), bytes(128)), mtime=0)[:-12], "cannot be read"),
        (b"\x1f\x8b" + bytes(40), "cannot be read"),
    ],
)
def test_an_invalid_idx_file_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        array_files.read_idx(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_gzip_bomb_is_unpacked_only_as_far_as_its_header_claims(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes((2, 8, 8), bytes(256 << 20))))
    tracemalloc.start()
    with pytest.raises(DataError, match="more pixels"):
        array_files.read_idx(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"\0\0\x08\x03", b"\x1f\x8b\x08\0", b"\x93NUMPY\x01\0", b"PK\x03\x04"]), data=st.binary()
)
def test_random_bytes_give_an_array_or_a_data_error(tmp_path: Path, head: bytes, data: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(head + data)
    for read in (array_files.read_idx, array_files.read_npy, array_files.read_npz):
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


HOSTILE_NPY = [
    (npy_header("(99999999999, 64, 64)") + bytes(99), "more than the file can hold"),
    (npy_header(f"({2**62}, {2**62}, {2**62})"), "more than the file can hold"),
    (npy_header("(-1, 64, 64)") + bytes(99), "no image"),
    (npy_header("(4, 8, 8)", "|O") + bytes(256), "object"),
    (npy_header("(4, 8, 8)", "<c16") + bytes(4096), "complex128"),
    (npy_header("__import__('os')"), "not a readable"),
    (b"\x93NUMPY\x09\x00" + bytes(99), "not a readable"),
    (b"not numpy at all", "not a readable"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE_NPY)
def test_an_invalid_npy_file_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        array_files.read_npy(path)
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError, match=message):
        array_files.read_npz(tmp_path / "images.npz")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    content = npy_bytes(np.array([Payload(trap)], dtype=object))
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError):
        array_files.read_npy(tmp_path / "a.npy")
    with pytest.raises(DataError):
        array_files.read_npz(tmp_path / "a.npz")
    assert not trap.exists()


def test_an_npz_that_claims_more_than_deflate_can_pack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((4, 16, 16), np.uint8))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 2**31)  # the claimed uncompressed size
    path.write_bytes(content)
    with pytest.raises(DataError, match="more than the file can hold"):
        array_files.read_npz(path)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["labels", "images"], {"all": "images"}),
        (["y", "x"], {"all": "x"}),
        (["b", "a"], {"all": "b"}),
        (["train", "labels", "val"], {"train": "train", "val": "val"}),
        (["test", "train"], {"train": "train", "val": "test"}),
        (["x_test", "x_train", "y_test", "y_train"], {"train": "x_train", "val": "x_test"}),
    ],
)
def test_npz_names(tmp_path: Path, names: list[str], chosen: dict[str, str]) -> None:
    arrays = {name: np.full((3, 8, 8), i, np.uint8) for i, name in enumerate(names)}
    np.savez(tmp_path / "a.npz", **arrays)
    found = array_files.read_npz(tmp_path / "a.npz")
    assert found.keys() == chosen.keys()
    for part, name in chosen.items():
        np.testing.assert_array_equal(found[part], arrays[name])


@pytest.mark.parametrize("content", [b"PK\x03\x04 broken", b""])
def test_a_broken_npz_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        array_files.read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(DataError, match="holds no array"):
        array_files.read_npz(tmp_path / "empty.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3, 16, 16), np.uint8), "channels first"),
        (np.zeros((4, 16, 16, 4), np.uint8), "4 channels"),
        (np.zeros((16, 16), np.uint8), "shape"),
        (np.zeros((480, 640, 3), np.uint8), "3×640 pixels"),
        (np.zeros((4, 16, 16), np.int64), "int64"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        array_files.as_image_array(array, "a.npy")


def test_pixel_values_become_uint8() -> None:
    floats = np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float16)
    assert array_files.to_uint8(floats, "a").tolist() == [0, 64, 128, 255]
    assert array_files.to_uint8(np.array([False, True]), "a").tolist() == [0, 255]
    for bad in (np.nan, np.inf, -0.1, 255.0):
        with pytest.raises(DataError, match="scale them"):
            array_files.to_uint8(np.array([0.5, bad]), "a")


def test_gray_agrees_with_pillow() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    grey = array_files.to_channels(images, 1)
    pillows = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    assert np.abs(grey.astype(int) - pillows.astype(int)).max() <= 1
    np.testing.assert_array_equal(array_files.to_channels(grey, 3), np.concatenate([grey] * 3, axis=3))


def test_more_memory_than_the_machine_has_is_refused() -> None:
    with pytest.raises(DataError, match="GiB"):
        array_files.require_memory(1 << 60, "this")


# ---- only what is wanted is unpacked -----------------------------------------------------------------------------


def _zeros(path: Path, kind: str) -> None:
    """128 MB of zeros in a small file."""
    shape = (2000, 256, 256) if kind != "colour" else (700, 256, 256, 3)
    if kind == "float":
        np.savez_compressed(path, images=np.zeros((500, 256, 256), np.float32))
    elif kind == "two parts":
        half = np.zeros((1000, 256, 256), np.uint8)
        np.savez_compressed(path, train=half, val=half)
    elif kind == "IDX":
        path.write_bytes(gzip.compress(idx_bytes(shape, bytes(2000 << 16))))
    else:
        np.savez_compressed(path, images=np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", ["gray", "colour", "float", "two parts", "IDX"])
def test_a_few_images_of_many_take_little_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "_MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / ("images.gz" if kind == "IDX" else "images.npz")
    _zeros(path, kind)
    tracemalloc.start()
    data = open_dataset(path, size=16, limit=4)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.train) + len(data.val) == 4 and peak_bytes < 16 << 20


@pytest.mark.parametrize("packed", [True, False])
def test_rows_of_an_archive(tmp_path: Path, packed: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 9, 11, 3), dtype=np.uint8)
    (np.savez_compressed if packed else np.savez)(tmp_path / "a.npz", images=images)
    rows = array_files.read_npz(tmp_path / "a.npz")["all"]
    for wanted in ([0, 1, 7], [7, 8, 49], [3], [49], [0], []):
        np.testing.assert_array_equal(rows[np.array(wanted, np.intp)], images[wanted])


def test_fortran_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (20, 9, 11), dtype=np.uint8))
    np.savez_compressed(tmp_path / "a.npz", images=images)
    np.testing.assert_array_equal(array_files.read_npz(tmp_path / "a.npz")["all"], images)
    monkeypatch.setattr(array_files, "_MOST_UNPACKED_BYTES", 1000)
    with pytest.raises(DataError, match="Fortran order"):
        array_files.read_npz(tmp_path / "a.npz")


def test_an_archive_that_ends_early(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy_header("(4, 9, 9)") + bytes(9))
        archive.writestr("padding", bytes(999))
    with pytest.raises(DataError, match="more than the file can hold"):
        array_files.read_npz(tmp_path / "a.npz")
    whole = np.random.default_rng(0).integers(0, 256, (40, 9, 9), dtype=np.uint8)
    np.savez_compressed(tmp_path / "b.npz", images=whole)
    content = bytearray((tmp_path / "b.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.npz .*cannot be read"):
        open_dataset(tmp_path / "b.npz", size=16)


def test_one_image_of_a_billion_pixels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        file.write(npy_header("(1, 16384, 16384)"))
        for _ in range(256):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="more than 178 million pixels"):
        open_dataset(tmp_path / "a.npz", size=16)


@pytest.mark.parametrize("header", [
    b"\x93NUMPY\2\0" + struct.pack("<I", 3 << 30),
    b"\x93NUMPY\1\0" + struct.pack("<H", 65_535) + b" " * 65_535,
    b"\x93NUMPY\1\0\x76\0" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 9, 9), }".ljust(118),
    b"\x93NUMPY\1\0",
], ids=["a header of 3 GiB", "a long header", "a shape of truths", "no header"])  # fmt: skip
def test_hostile_npy_headers(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(header)
    os.truncate(tmp_path / "a.npy", max(len(header), 1 << 32) if b"\2\0" in header[:8] else len(header))
    with pytest.raises(DataError, match="not a readable"):
        array_files.read_npy(tmp_path / "a.npy")
