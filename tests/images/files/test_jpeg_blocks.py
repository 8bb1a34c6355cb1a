"""What a mask does not touch of a JPEG keeps its coefficients; what cannot be kept is told."""

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.jpeg_files import Box, encode, insert, paint, pixels, resampled, save, segment
from PIL import Image

from edgeae.images.files import jpeg_blocks
from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer

library = pytest.importorskip("jpegio", reason="pyjpegio is not installed (the extra jpeg)")

BOX = (20, 17, 45, 30)


def coefficients(data: bytes) -> list[np.ndarray]:
    """Each component's blocks, (rows, columns, 8, 8)."""
    arrays = jpeg_blocks._read(library, data).coef_arrays
    return [np.array(a).reshape(a.shape[0] // 8, 8, -1, 8).swapaxes(1, 2) for a in arrays]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def ycck() -> bytes:
    data = bytearray(encode("CMYK"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def with_arithmetic_coding(data: bytes) -> bytes:
    jpeg = jpeg_blocks._read(library, data)
    jpeg.arith_code = 1
    return jpeg_blocks._write(jpeg)


def rotated_exif() -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif.tobytes()


def as_mpo() -> bytes:
    first, second = (Image.open(io.BytesIO(encode(size=size))) for size in ((96, 64), (16, 16)))
    return save(first, "MPO", save_all=True, append_images=[second], quality=85)


def black_and_white() -> bytes:
    """At the highest quality the mean of a black block is -1024, the lowest coefficient that there is."""
    x = np.zeros((64, 96, 3), np.uint8)
    x[:, 48:] = 255
    return save(Image.fromarray(x), quality=100, subsampling=0)


THUMBNAIL = b"Exif\0\0" + encode(size=(16, 16))
KEPT = {
    "4:2:0": encode(),
    "4:2:2": encode(subsampling=1),
    "4:4:4": encode(subsampling=0),
    "gray": encode("L"),
    "gray whose one component is sampled 2×2": resampled(encode("L"), b"\x22"),
    "4:4:4 sampled 1×2 each": resampled(encode(subsampling=0, size=(64, 64)), b"\x12\x12\x12"),
    "CMYK": encode("CMYK"),
    "YCCK": ycck(),
    "4:4:0": resampled(encode(subsampling=1, size=(64, 64)), b"\x12\x11\x11"),
    "4:1:1": resampled(encode(size=(64, 64)), b"\x41\x11\x11"),
    "luma halved one way, chroma the other": resampled(encode(size=(64, 64)), b"\x12\x21\x21"),
    "RGB without a transform": encode(keep_rgb=True),
    "progressive": encode(progressive=True),
    "progressive 4:4:4": encode(progressive=True, subsampling=0),
    "restart markers": encode(restart_marker_blocks=2),
    "optimized Huffman tables": encode(optimize=True, quality=60),
    "arithmetic coding": with_arithmetic_coding(encode()),
    "quality 100, black and white": black_and_white(),
    "quality 1": encode(quality=1),
    "one table for all components": encode(qtables=[[3] * 64]),
    "three tables": encode(qtables=[[3] * 64, [5] * 64, [9] * 64]),
    "one pixel": encode(size=(1, 1)),
    "narrower than a block": encode(size=(5, 70)),
    "no multiple of a block": encode(size=(83, 57)),
    "one pixel past a block": encode(size=(97, 65)),
    "turned by EXIF": encode(exif=rotated_exif()),
    "thumbnail in JFIF": insert(
        b"\xff\xd8" + encode()[20:], segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\x05\x05" + b"thumb" * 15)
    ),
    "thumbnail in EXIF": insert(encode(), segment(0xE1, THUMBNAIL)),
    "sixty segments": insert(encode(), *(segment(0xE1, b"number %d" % i) for i in range(60))),
    "comment, resolution, profile": encode(comment=b"a comment", dpi=(300, 300), icc_profile=b"p" * 70_000),
    "bytes behind the end": encode() + b"\0" * 1000 + b"motion video",
    "two pictures (MPO)": as_mpo(),
}


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT.keys())
def test_blocks_outside_stay(data: bytes) -> None:
    height, width = pixels(data).shape[:2]
    box = BOX if min(width, height) > 50 else (0, 0, min(2, width), min(3, height))
    result, note = paint(data, box)
    assert note == ""
    check(data, result, box)
    assert np.abs(pixels(result).astype(int) - pixels(data)).max() > 20  # the box was painted


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (95, 63, 96, 64), (8, 8, 16, 16), (16, 16, 32, 32), (0, 0, 96, 9), (31, 0, 33, 64)], ids=str
)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_boxes_at_the_edges_of_blocks(box: Box, subsampling: int) -> None:
    data = encode(subsampling=subsampling)
    result, note = paint(data, box)
    assert note == ""
    check(data, result, box)


@pytest.mark.parametrize("name", ["4:2:0", "4:4:0", "gray", "progressive", "no multiple of a block"])
def test_another_reader_finds_the_same_coefficients(name: str, tmp_path: Path) -> None:
    """libjpeg 6b, through another package."""
    jpeglib = pytest.importorskip("jpeglib")
    (tmp_path / "before.jpg").write_bytes(KEPT[name])
    (tmp_path / "after.jpg").write_bytes(paint(KEPT[name], BOX)[0])
    before, after = (jpeglib.read_dct(str(tmp_path / f"{when}.jpg")) for when in ("before", "after"))
    for one, other in zip((before.Y, before.Cb, before.Cr), (after.Y, after.Cb, after.Cr), strict=True):
        if one is not None:  # the box ends in the third row and the sixth column of 16×16 pixels
            same = (one == other).all((2, 3))
            assert same[4:].all() and same[:, 6:].all() and not same.all()


@pytest.mark.parametrize("subsampling", [0, 2])
def test_tall_pictures_are_encoded_band_by_band(subsampling: int) -> None:
    data, box = encode(size=(30, 1300), subsampling=subsampling), (10, 500, 20, 1100)
    result, note = paint(data, box)
    wanted = pixels(data).astype(int)
    wanted[500:1100, 10:20] = 255 - wanted[500:1100, 10:20]
    assert note == "" and np.abs(pixels(result) - wanted)[500:1100, 10:20].mean() < 12
    check(data, result, box)


def check(data: bytes, result: bytes, box: Box) -> None:
    """Compare each block that has no pixel of the box, then the pixels that no changed block can reach."""
    left, top, right, bottom = box
    with Image.open(io.BytesIO(data)) as image:
        (width, height), factors = image.size, [layer[1:3] for layer in image.layer]
    most_across, most_down = (max(sides) for sides in zip(*factors, strict=True))
    before, after, kept = coefficients(data), coefficients(result), 0
    assert [array.shape for array in before] == [array.shape for array in after]
    for old, new, (across, down) in zip(before, after, factors, strict=True):
        across, down = 8 * most_across // across, 8 * most_down // down
        for i, j in np.ndindex(old.shape[:2]):
            outside = i * down >= bottom or (i + 1) * down <= top or j * across >= right or (j + 1) * across <= left
            assert not outside or (old[i, j] == new[i, j]).all(), (i, j)
            kept += outside
    assert kept or min(width, height) < 17
    across, down, far = 8 * most_across, 8 * most_down, np.ones((height, width), bool)
    rows = slice(max(0, top // down * down - 1), -(-bottom // down) * down + 1)
    far[rows, max(0, left // across * across - 1) : -(-right // across) * across + 1] = False
    assert np.array_equal(pixels(result)[far], pixels(data)[far])


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT.keys())
def test_without_a_change_every_pixel_stays(data: bytes) -> None:
    result, note = paint(data, None)
    assert note == "" and np.array_equal(pixels(result), pixels(data))


@pytest.mark.parametrize("name", ["4:2:0", "CMYK", "RGB without a transform", "turned by EXIF", "sixty segments",
                                  "comment, resolution, profile", "two pictures (MPO)"])  # fmt: skip
def test_metadata_are_those_that_the_writer_made(name: str) -> None:
    expected, kept = (paint(KEPT[name], BOX, keep=keep)[0] for keep in (False, True))
    with Image.open(io.BytesIO(expected)) as one, Image.open(io.BytesIO(kept)) as other:
        assert [item for item in one.applist if item[0] != "APP0"] == [
            item for item in other.applist if item[0] != "APP0"
        ]
        for key in one.info.keys() - {"dpi", "jfif_unit", "jfif_density"}:  # the photo's own here
            assert one.info[key] == other.info.get(key), key


def test_a_thumbnail_beside_the_metadata_is_left_out() -> None:
    data = KEPT["thumbnail in JFIF"]
    result = paint(data, BOX)[0]
    with Image.open(io.BytesIO(result)) as image:
        assert image.info["dpi"] == (72, 72)
    assert b"thumb" in data and b"thumb" not in result


def test_progressive_files_stay_so() -> None:
    with Image.open(io.BytesIO(paint(KEPT["progressive"], BOX)[0])) as image:
        assert image.info["progressive"]


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT.keys())
def test_inside_the_box_is_what_was_written(data: bytes) -> None:
    """As near to the pixels as the whole picture encoded anew is."""
    height, width = pixels(data).shape[:2]
    left, top, right, bottom = BOX if min(width, height) > 50 else (0, 0, width, height)
    box = (slice(top, bottom), slice(left, right))
    wanted = pixels(data).astype(int)
    wanted[box] = 255 - wanted[box]
    kept, encoded = (pixels(paint(data, (left, top, right, bottom), keep=keep)[0]) for keep in (True, False))
    as_sampled = data not in (KEPT[name] for name in ("YCCK", "4:1:1", "luma halved one way, chroma the other"))
    limit = 1 if as_sampled else 6  # the picture encoded anew has another sampling or color space
    assert np.abs(kept - wanted)[box].mean() <= np.abs(encoded - wanted)[box].mean() + limit


# ---- what cannot be kept -----------------------------------------------------------------------------------------


def with_wild_coefficients() -> bytes:
    """Ones whose differences are in the range that a file can hold, but whose sums are not."""
    data = encode()
    return changed(data, data.index(b"\xff\xda") + 14, b"\x3f" * 300)


def without_late_scans() -> bytes:
    data = encode(progressive=True)
    return data[: len(data) // 2] + b"\xff\xd9"


def with_scans(count: int) -> bytes:
    return insert(encode(), segment(0xFE, b"\xff\xda" * count))


LOST = {
    "many scans": (with_scans(100), "scans"),
    "coefficients out of range": (with_wild_coefficients(), "damaged"),
    "scans that are missing": (without_late_scans(), "unusual"),
}


@pytest.mark.parametrize(("data", "reason"), LOST.values(), ids=LOST.keys())
def test_other_kinds_are_encoded_again_with_a_note(data: bytes, reason: str) -> None:
    result, note = paint(data, (4, 4, 9, 9))
    assert note.startswith("it is encoded again, which changes pixels outside the mask a little: ") and reason in note
    assert result == paint(data, (4, 4, 9, 9), keep=False)[0]


def test_without_the_library_the_note_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jpegio", None)
    result, note = paint(encode(), BOX)
    assert note.endswith("a little: pip install 'edgeae[jpeg]' keeps them")
    assert result == paint(encode(), BOX, keep=False)[0]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = 3 * 18 * 96 * 64 // 4096
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}.__getitem__)
    assert paint(encode(), BOX)[1] == ""
    assert "pixels" in paint(encode(size=(97, 64)), BOX)[1].rpartition(":")[2]


def test_a_picture_where_everything_changes_is_encoded_as_ever() -> None:
    data = encode()
    assert paint(data, (0, 0, 96, 64)) == paint(data, (0, 0, 96, 64), keep=False)


def test_other_channels_are_encoded_as_ever() -> None:
    file = io.BytesIO()
    with Photo(encode("L"), "photo.jpg") as opened:
        writer = Writer(file, "JPEG", opened, "RGB", keep=True)
        writer.write(opened.read(64).repeat(3, axis=2))
        writer.close()
    assert "channels" in writer.note and pixels(file.getvalue()).shape == (64, 96, 3)


@pytest.mark.parametrize("failing", ["TemporaryFile", "optimize", "memory"])
def test_a_library_that_fails_costs_only_the_blocks(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise {"TemporaryFile": OSError("no space"), "optimize": RuntimeError(), "memory": MemoryError()}[failing]

    place = (jpeg_blocks.tempfile, "TemporaryFile") if failing == "TemporaryFile" else (jpeg_blocks, "_write")
    monkeypatch.setattr(*place, fail)
    result, note = paint(encode(), BOX)
    assert "cannot be read" in note and result == paint(encode(), BOX, keep=False)[0]


def test_blocks_that_decode_to_other_pixels_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the library misread a photo, its result is not used."""

    def misread(library: object, data: bytes) -> object:
        jpeg = read(library, data)
        if data == source:
            jpeg.coef_arrays[0][56, 88] += 9
        return jpeg

    read, source = jpeg_blocks._read, encode()
    monkeypatch.setattr(jpeg_blocks, "_read", misread)
    result, note = paint(source, BOX)
    assert "unusual" in note and result == paint(source, BOX, keep=False)[0]


# ---- damaged photos, and threads ---------------------------------------------------------------------------------


OTHER_TABLE = segment(0xDB, b"\1" + b"\7" * 64)


def damaged() -> dict[str, bytes]:
    """Damaged files; which of them Pillow opens differs."""
    data, progressive = encode(), encode(progressive=True)
    size, scan = data.index(b"\xff\xc0\x00\x11"), data.index(b"\xff\xda")
    tables, huffman = data.index(b"\xff\xdb"), data.index(b"\xff\xc4")
    return {
        "half": data[: len(data) // 2],
        "half, with an end": data[: len(data) // 2] + b"\xff\xd9",
        "no end": data[:-2],
        "header only": data[: scan + 2],
        "random data in the scan": changed(data, scan + 300, np.random.default_rng(0).bytes(200)),
        "zeros in the scan": changed(data, scan + 300, b"\0" * 400),
        "markers in the scan": changed(data, scan + 300, b"\xff\xd0\xff\xd3\xff\xd7"),
        "restart interval without markers": insert(data, segment(0xDD, b"\0\2")),
        "bad Huffman table": changed(data, huffman + 5, b"\x01" * 3),
        "no Huffman tables": data[:huffman] + data[scan:],
        "table of zeros": changed(data, tables + 5, b"\0" * 64),
        "table of 255": changed(data, tables + 5, b"\xff" * 64),
        "higher than its data": changed(data, size + 5, b"\x00\xff"),
        "wider than its data": changed(data, size + 7, b"\x01\x00"),
        "four components named": changed(data, size + 9, b"\4"),
        "one component named": changed(data, size + 9, b"\1"),
        "sampling 4×4": changed(data, size + 11, b"\x44"),
        "sampling 0": changed(data, size + 11, b"\0"),
        "12 bits": changed(data, size + 4, b"\x0c"),
        "progressive marker on a baseline scan": changed(data, size + 1, b"\xc2"),
        "lossless marker": changed(data, size + 1, b"\xc3"),
        "arithmetic marker": changed(data, size + 1, b"\xc9"),
        "progressive half": progressive[: len(progressive) // 2],
        "progressive half, with an end": progressive[: len(progressive) // 2] + b"\xff\xd9",
        "progressive scans twice": progressive[:-2] + progressive[progressive.index(b"\xff\xda") :],
        "another table before each scan": progressive.replace(b"\xff\xda", OTHER_TABLE + b"\xff\xda"),
        "segment longer than the file": insert(data, b"\xff\xe5\xff\xff"),
        "two headers": data[: scan - 1] + data[2:],
    }  # fmt: skip


PROGRAM = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from helpers.jpeg_files import paint, pixels
from images.files.test_jpeg_blocks import damaged
from edgeae.errors import ImageError
results = {}
for name, data in damaged().items():
    open_files = len(os.listdir("/dev/fd"))
    try:
        result, note = paint(data, (4, 4, 9, 9))
        results[name] = "kept" if not note else "encoded"
        assert pixels(result).shape == pixels(data).shape, name
    except ImageError:
        results[name] = "refused"
    assert len(os.listdir("/dev/fd")) <= open_files + 1, name
print(json.dumps(results))
"""


def test_damaged_photos_end_neither_the_process_nor_the_work() -> None:
    paths = json.dumps([str(ROOT), str(ROOT / "tests"), *sys.path])
    done = subprocess.run([sys.executable, "-c", PROGRAM, paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert set(results) == set(damaged()) and {"kept", "encoded", "refused"} == set(results.values()), results


def test_in_several_threads() -> None:
    names = ["4:2:0", "gray", "progressive", "CMYK"] * 8
    alone = {name: paint(KEPT[name], BOX) for name in set(names)}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: paint(KEPT[name], BOX), names)) == [alone[name] for name in names]
