"""Reading PNG files in strips, against Pillow, OpenCV and an encoder of our own; damaged and hostile files."""

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, photo
from helpers.png_files import (
    KINDS,
    SIGNATURE,
    chunk,
    chunks_of,
    header,
    opencv,
    pillow,
    png,
    random_samples,
    read,
    write,
)
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files import png_reader
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.reader import Photo

MODES = ("L", "LA", "RGB", "RGBA")
DAMAGED = "^is damaged or cut short: copy or save it again.$"


# --- reading ---------------------------------------------------------------------------------------------------------


def expected(samples: np.ndarray, colour: int, depth: int, palette: np.ndarray) -> np.ndarray:
    if colour == 3:
        return palette[samples[..., 0]]
    return samples * (255 // (2**depth - 1)) if depth < 8 else samples


@pytest.mark.parametrize(("colour", "depth"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (13, 21)])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, None])
def test_every_kind_of_pixel_and_filter(colour: int, depth: int, size: tuple[int, int], kind: int | None) -> None:
    samples = random_samples(*size, colour, depth)
    palette = np.random.default_rng(1).integers(0, 256, (2**depth if colour == 3 else 1, 3)).astype(np.uint8)
    before = chunk(b"PLTE", palette.tobytes()) if colour == 3 else b""
    data = png(samples, colour, depth, kinds=None if kind is None else [kind] * size[0], before=before)
    image = read(data)
    np.testing.assert_array_equal(image, expected(samples, colour, depth, palette))
    assert image.dtype == (np.uint16 if depth == 16 else np.uint8)
    if depth < 16:
        np.testing.assert_array_equal(image, pillow(data, {0: "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}[colour]))
    elif colour != 4:  # OpenCV makes RGBA of LA
        np.testing.assert_array_equal(image, opencv(data))


@pytest.mark.parametrize(("colour", "depth"), [(0, 2), (2, 8), (2, 16), (6, 16)])
@pytest.mark.parametrize("strip_bytes", [1, 150, 2**20])
def test_strips_of_every_size_give_the_same_rows(colour: int, depth: int, strip_bytes: int, monkeypatch) -> None:
    monkeypatch.setattr("edgeae.images.files.png_reader.STRIP_BYTES", strip_bytes)
    samples = random_samples(17, 11, colour, depth)
    data = png(samples, colour, depth, idat_bytes=7)
    for rows in range(1, 19):
        np.testing.assert_array_equal(read(data, rows), expected(samples, colour, depth, samples))


def test_a_photo_that_pillow_wrote() -> None:
    image = photo(300, 801)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    np.testing.assert_array_equal(read(file.getvalue(), 64), image)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [0, 1, 2])
def test_transparent_palettes(depth: int, alphas: int) -> None:
    rng = np.random.default_rng(depth)
    samples = random_samples(9, 10, 3, depth)
    palette = rng.integers(0, 256, (2**depth, 4)).astype(np.uint8)
    palette[alphas:, 3] = 255
    tables = chunk(b"PLTE", palette[:, :3].tobytes()) + chunk(b"tRNS", palette[:alphas, 3].tobytes())
    data = png(samples, 3, depth, before=tables)
    np.testing.assert_array_equal(read(data), palette[samples[..., 0]])
    if alphas:
        np.testing.assert_array_equal(read(data), pillow(data, "RGBA"))


@pytest.mark.parametrize(("colour", "depth"), [(kind, depth) for kind, depth in KINDS if kind in (0, 2)])
def test_colour_keys(colour: int, depth: int) -> None:
    samples = random_samples(9, 10, colour, depth)
    samples[4:] = samples[0, 0]
    samples[8, :, -1] ^= 1  # one channel differs: opaque
    key = samples[0, 0]
    before = chunk(b"tRNS", key.astype(">u2").tobytes())
    image = read(png(samples, colour, depth, before=before))
    transparent = (samples == key).all(axis=2)
    top = np.iinfo(image.dtype).max
    np.testing.assert_array_equal(image[..., -1], np.where(transparent, 0, top))
    np.testing.assert_array_equal(image[..., :-1], expected(samples, colour, depth, samples))
    if colour == 2 and depth == 8:
        np.testing.assert_array_equal(image, pillow(png(samples, colour, depth, before=before), "RGBA"))


def test_an_index_past_the_palette_is_opaque_black_as_in_pillow() -> None:
    samples = np.arange(16).reshape(4, 4, 1)
    before = chunk(b"PLTE", bytes(range(100, 112))) + chunk(b"tRNS", b"\x07")
    data = png(samples, 3, 8, before=before)
    image = read(data)
    assert image[1:].reshape(-1, 4).tolist() == [[0, 0, 0, 255]] * 12
    np.testing.assert_array_equal(image, pillow(data, "RGBA"))


def test_attributes_of_a_reader() -> None:
    samples = random_samples(4, 5, 2, 8)
    kept = [(b"gAMA", b"\0\0\xb1\x8f"), (b"pHYs", bytes(9)), (b"tEXt", b"Title\0Lions"), (b"tEXt", b"")]
    late = [(b"iTXt", b"Comment\0\0\0\0\0late"), (b"tIME", bytes(7)), (b"eXIf", b"MM\0*\0\0\0\x08\0\0")]
    dropped = [(b"bKGD", bytes(6)), (b"sBIT", b"\x08\x08\x08"), (b"prVt", b"?")]
    before = b"".join(chunk(*part) for part in kept + dropped)
    data = png(samples, 2, 8, before=before, after=b"".join(chunk(*part) for part in late)) + b"after the end"
    reader = PngReader(io.BytesIO(data))
    assert (reader.width, reader.height, reader.mode, reader.dtype) == (5, 4, "RGB", np.uint8)
    assert reader.chunks == tuple(kept + late)
    assert not reader.interlaced
    assert not reader.animated
    rewritten = PngReader(io.BytesIO(write(reader.read(4), "RGB", chunks=reader.chunks)))
    assert rewritten.chunks == reader.chunks
    np.testing.assert_array_equal(rewritten.read(4), samples)


def test_the_first_picture_of_an_animation() -> None:
    frames = [Image.fromarray(photo(20, 30, seed=seed)) for seed in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert PngReader(io.BytesIO(file.getvalue())).animated
    np.testing.assert_array_equal(read(file.getvalue()), np.asarray(frames[0]))


def test_interlaced_files_are_left_to_pillow() -> None:
    data = SIGNATURE + header(3, 2, 8, 2, 0, 0, 1) + chunk(b"IDAT", zlib.compress(bytes(30))) + chunk(b"IEND")
    reader = PngReader(io.BytesIO(data))
    assert reader.interlaced
    with pytest.raises(ImageError, match="is interlaced"):
        reader.read(1)


def test_pillows_limits_and_warnings_do_not_interfere(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    image = photo(20, 30)
    np.testing.assert_array_equal(read(write(image, "RGB")), image)


def test_a_row_of_a_hundred_thousand_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 2**16, (3, 100_000, 4), np.uint16)
    image[1:] = image[0]  # 800 KB a row
    np.testing.assert_array_equal(read(write(image, "RGBA", 1), 1), image)


# ---- damaged and hostile files ---------------------------------------------------------------------------------------


IDAT = chunk(b"IDAT", zlib.compress(bytes(3 * 10)))  # three rows of 9 bytes and their filters
END = chunk(b"IEND")
GRAY = header(9, 3)


@pytest.mark.parametrize(
    "body",
    [
        GRAY + END,
        GRAY + IDAT,
        GRAY + GRAY + IDAT + END,
        header(0, 3) + IDAT + END,
        header(9, 0) + IDAT + END,
        header(2**31, 3) + IDAT + END,
        header(2**32 - 1, 2**32 - 1) + IDAT + END,
        header(9, 3, 3) + IDAT + END,
        header(9, 3, 16, 3) + IDAT + END,
        header(9, 3, 4, 2) + IDAT + END,
        header(9, 3, 8, 1) + IDAT + END,
        header(9, 3, 8, 0, 1, 0, 0) + IDAT + END,
        header(9, 3, 8, 0, 0, 1, 0) + IDAT + END,
        header(9, 3, 8, 0, 0, 0, 2) + IDAT + END,
        GRAY[:-1] + bytes([GRAY[-1] ^ 1]) + IDAT + END,
        header(9, 3, 8, 3) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE") + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(4)) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(771)) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(6))[:-1] + b"?" + IDAT + END,
        header(9, 3, 8, 3) + IDAT + chunk(b"PLTE", bytes(6)) + END,
        header(9, 3, 8, 3) + 2 * chunk(b"PLTE", bytes(6)) + IDAT + END,
        GRAY + chunk(b"tRNS", b"\0") + IDAT + END,
        GRAY + 2 * chunk(b"tRNS", b"\0\0") + IDAT + END,
        GRAY + chunk(b"gAMA", bytes(4))[:-1] + b"?" + IDAT + END,
        GRAY + chunk(b"WHAT") + IDAT + END,
        GRAY + chunk(b"t\0Xt") + IDAT + END,
        GRAY + IDAT + chunk(b"tEXt") + IDAT + END,
        GRAY + struct.pack(">I4s", 2**31 - 1, b"IDAT") + IDAT + END,
        GRAY + struct.pack(">I4s", 2**32 - 1, b"tEXt") + IDAT + END,
        header(9, 10**6) + IDAT + END,  # more rows than so few bytes can inflate to
        header(2**26, 2**31 - 1) + IDAT + END,
    ],
)
def test_broken_files_are_refused_at_once(body: bytes) -> None:
    with pytest.raises(ImageError, match=DAMAGED):
        PngReader(io.BytesIO(SIGNATURE + body))


@pytest.mark.parametrize(
    "idat",
    [
        chunk(b"IDAT"),
        chunk(b"IDAT", zlib.compress(bytes(29))),
        chunk(b"IDAT", zlib.compress(bytes(30))[:-8]),
        chunk(b"IDAT", zlib.compress(bytes(20) + b"\5" + bytes(9))),
        chunk(b"IDAT", b"\x78\x9c" + bytes([7] * 30)),
        chunk(b"IDAT", b"no zlib stream"),
        IDAT[:-1] + bytes([IDAT[-1] ^ 1]),
        chunk(b"IDAT", IDAT[8:13]) + chunk(b"IDAT", IDAT[13:-4])[:-4] + b"crc?",
    ],
)
def test_broken_pixel_data_are_refused_when_read(idat: bytes) -> None:
    with pytest.raises(ImageError, match=DAMAGED):
        read(SIGNATURE + GRAY + idat + END)


def test_files_that_are_no_png() -> None:
    for data in (
        b"",
        SIGNATURE[:5],
        SIGNATURE,
        b"GIF89a" + bytes(100),
        SIGNATURE + chunk(b"CgBI", bytes(4)) + GRAY,
        SIGNATURE + IDAT + END,
    ):
        with pytest.raises(ImageError, match="is not a PNG file"):
            PngReader(io.BytesIO(data))


def test_surplus_pixel_data_and_empty_idats_are_harmless() -> None:
    data = zlib.compress(bytes(10**6)) + b"more"
    idats = chunk(b"IDAT") + chunk(b"IDAT", data[:5]) + chunk(b"IDAT") * 3000 + chunk(b"IDAT", data[5:])
    assert read(SIGNATURE + GRAY + idats + END).tolist() == np.zeros((3, 9, 1)).tolist()


def test_rows_and_chunks_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = chunk(b"IDAT", zlib.compress(bytes(2**23 + 1), 1))
    with pytest.raises(ImageError, match="rows of more than 16 MiB"):
        PngReader(io.BytesIO(SIGNATURE + header(2**23, 1, 8, 3) + chunk(b"PLTE", bytes(3)) + wide + END))
    monkeypatch.setattr(png_reader, "_MOST_CHUNKS", 50)
    with pytest.raises(ImageError, match="more than 50 chunks"):
        PngReader(io.BytesIO(SIGNATURE + GRAY + chunk(b"tEXt") * 50 + IDAT + END))


IDAT_OF_ONE = chunk(b"IDAT", zlib.compress(b"\0\7"))
_DEFLATED = zlib.compress(bytes(20 << 20))
TEXTS = {  # chunks, and how many of them are left out
    "texts of 16 MiB": (chunk(b"tEXt", bytes(2**20)) * 17, 1),
    "a text of 20 MiB": (chunk(b"tEXt", bytes(20 << 20)), 1),
    "empty texts": (chunk(b"tEXt") * 1001, 1),
    "broken texts": (chunk(b"zTXt", b"a\0\0broken") * 1003, 3),
    "compressed text of 20 MiB": (chunk(b"zTXt", b"a\0\0" + _DEFLATED) * 3, 3),
    "compressed international text of 20 MiB": (chunk(b"iTXt", b"a\0\1\0\0\0" + _DEFLATED), 1),
    "compressed profile of 20 MiB": (chunk(b"iCCP", b"a\0\0" + _DEFLATED), 1),
    "many compressed texts of 900 kB": (chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 30, 12),
    "sizes again and again": (chunk(b"pHYs", b"x") * 1002, 2),
    "times again and again": (chunk(b"tIME", bytes(7)) * 1001, 1),
}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("chunks", "left_out"), [pytest.param(*value, id=name) for name, value in TEXTS.items()])
def test_profiles_and_texts_past_a_limit_are_left_out(chunks: bytes, left_out: int, interlaced: bool) -> None:
    head = header(1, 1, 8, 0, 0, 0, int(interlaced))  # of one pixel, which is stored the same
    data = SIGNATURE + head + chunks + IDAT_OF_ONE + END
    assert PngReader(io.BytesIO(data)).left_out == left_out
    with Photo(data) as picture:
        assert picture.note.startswith(f"{left_out} of its profiles and texts")
        assert picture.read(1).tolist() == [[[7]]]


def sound_files() -> list[bytes]:
    palette = chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", bytes(9))
    return [
        write(photo(40, 50), "RGB", chunks=[(b"tEXt", b"Title\0Lions")]),
        png(random_samples(20, 20, 6, 16), 6, 16),
        png(random_samples(20, 20, 3, 4), 3, 4, before=palette),
    ]


@pytest.mark.parametrize("which", range(3))
def test_files_cut_short_are_refused_at_once(which: int) -> None:
    data = sound_files()[which]
    for percent in range(100):
        with pytest.raises(ImageError):
            PngReader(io.BytesIO(data[: len(data) * percent // 100]))
    for lost in range(1, 13):
        with pytest.raises(ImageError):
            PngReader(io.BytesIO(data[:-lost]))


def with_new_crcs(data: bytes) -> bytes:
    try:
        return SIGNATURE + b"".join(chunk(*part) for part in chunks_of(data))
    except struct.error:
        return data


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("mend", [False, True], ids=["as it is", "with right CRCs"])
def test_random_damage_gives_an_image_error_or_a_picture(which: int, mend: bool) -> None:
    rng, sound = np.random.default_rng(which), sound_files()[which]
    refused = 0
    for _ in range(400):
        data = bytearray(sound)
        for position in rng.integers(8, len(sound) if rng.random() < 0.5 else 60, rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        try:
            reader = PngReader(io.BytesIO(with_new_crcs(bytes(data)) if mend else bytes(data)))
            if not reader.interlaced:
                image = reader.read(50)
                assert image.shape == (min(50, reader.height), reader.width, len(reader.mode))
        except ImageError as error:
            refused += 1
            assert str(error).startswith(("is ", "has "))
    assert refused > (50 if mend else 300)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    """Compare the resident memory of child processes that write and read 12 and 120 MB."""
    code = """
import json, resource, sys
import numpy as np
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.png_writer import PngWriter
path, height = sys.argv[1], int(sys.argv[2])
strip = np.random.default_rng(0).integers(0, 8, (100, 2000, 3), np.uint8)
with open(path, "wb") as file:
    writer = PngWriter(file, 2000, height, "RGB", np.uint8, level=1)
    for _ in range(height // 100):
        writer.write(strip)
    writer.close()
with open(path, "rb") as file:
    reader = PngReader(file)
    while len(rows := reader.read(100)):
        assert np.array_equal(rows, strip)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
    peaks = []
    for height in (2000, 20_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "tall.png"), str(height)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]


def test_hostile_sizes_take_no_memory() -> None:
    """Two billion rows in a small file, and a chunk of a gigabyte that is only declared."""
    bomb = zlib.compress(bytes(10**6), 9)
    tracemalloc.start()
    try:
        for body in (header(2**20, 2**31 - 1) + chunk(b"IDAT", bomb), GRAY + struct.pack(">I4s", 2**30, b"iCCP")):
            with pytest.raises(ImageError):
                PngReader(io.BytesIO(SIGNATURE + body + END))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
