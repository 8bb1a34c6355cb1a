"""Strips of PNG files against Pillow, OpenCV and an encoder written out here; damaged and hostile files."""

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
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.png_writer import PngWriter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a colour type, as the file stores them
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
MODES = ("L", "LA", "RGB", "RGBA")
DAMAGED = "^is damaged or cut short: copy or save it again.$"


# --- an encoder that filters byte by byte, as the specification says it --------------------------------------------


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0, *methods: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(methods or (0, 0, 0))))


def packed(samples: np.ndarray, depth: int) -> list[bytes]:
    """(H, W, C) samples → the bytes of each row."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = (samples.reshape(len(samples), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return [row.tobytes() for row in np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)]


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    p = left + up - corner
    paeth = min((left, up, corner), key=lambda value: abs(p - value))  # min takes the first of equals
    return (0, left, up, (left + up) // 2, paeth)[kind]


def filtered(rows: list[bytes], distance: int, kinds: list[int]) -> bytes:
    out, above = bytearray(), bytes(len(rows[0]))
    for row, kind in zip(rows, kinds, strict=True):
        out.append(kind)
        for i, value in enumerate(row):
            left, corner = (row[i - distance], above[i - distance]) if i >= distance else (0, 0)
            out.append((value - predicted(kind, left, above[i], corner)) % 256)
        above = row
    return bytes(out)


def png(
    samples: np.ndarray,
    colour: int,
    depth: int,
    *,
    kinds: list[int] | None = None,
    before: bytes = b"",
    after: bytes = b"",
    idat_bytes: int = 100,
) -> bytes:
    height, width, channels = samples.shape
    distance = max(1, channels * depth // 8)
    kinds = [y % 5 for y in range(height)] if kinds is None else kinds
    data = zlib.compress(filtered(packed(samples, depth), distance, kinds))
    parts = [chunk(b"IDAT", data[i : i + idat_bytes]) for i in range(0, len(data), idat_bytes)]
    return b"".join((SIGNATURE, header(width, height, depth, colour), before, *parts, after, chunk(b"IEND")))


def random_samples(height: int, width: int, colour: int, depth: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**depth, (height, width, CHANNELS[colour]))


def read(data: bytes, rows: int = 10**9) -> np.ndarray:
    reader = PngReader(io.BytesIO(data))
    strips = []
    while len(strip := reader.read(rows)):
        strips.append(strip)
    assert strip.shape == (0, reader.width, len(reader.mode))
    image = np.concatenate(strips)
    assert image.shape == (reader.height, reader.width, len(reader.mode))
    assert image.dtype == reader.dtype
    return image


def write(image: np.ndarray, mode: str, rows: int = 10**9, **options: object) -> bytes:
    file = io.BytesIO()
    writer = PngWriter(file, image.shape[1], image.shape[0], mode, image.dtype, **options)
    for start in range(0, len(image), rows):
        writer.write(image[start : start + rows])
    writer.close()
    return file.getvalue()


def pillow(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode)).reshape(image.height, image.width, len(mode))


def opencv(data: bytes) -> np.ndarray:
    """(H, W, C), with the channels in the file's order."""
    cv2 = pytest.importorskip("cv2")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    image = image.reshape(*image.shape[:2], -1)
    return image[..., [2, 1, 0, 3][: image.shape[2]]] if image.shape[2] > 2 else image


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


def test_what_a_reader_tells() -> None:
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


def test_animations_are_told_and_give_their_first_picture() -> None:
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


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (61, 47)])
def test_what_is_written_is_read_back_by_others(mode: str, dtype: type, size: tuple[int, int]) -> None:
    image = photo(*size, len(mode)).astype(dtype) if min(size) > 1 else np.full((*size, len(mode)), 7, dtype)
    if dtype == np.uint16:
        image = image * 251 + np.random.default_rng(0).integers(0, 250, image.shape, dtype)
    for rows in (1, 7, 100):
        data = write(image, mode, rows)
        np.testing.assert_array_equal(read(data), image)
        if dtype == np.uint8:
            np.testing.assert_array_equal(pillow(data, mode), image)
        elif mode != "LA":
            np.testing.assert_array_equal(opencv(data), image)
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()


@pytest.mark.parametrize("level", range(10))
def test_every_level_and_strips_in_which_the_strategy_changes(level: int, monkeypatch) -> None:
    """Noise, and a pattern that repeats at a distance, in turns."""
    monkeypatch.setattr("edgeae.images.files.png_writer.STRIP_BYTES", 3 * 128 * 40)
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 3), np.uint8)
    pattern = np.tile(noise[:, :16], (1, 8, 1))
    image = np.concatenate((noise, pattern, pattern, noise, pattern, noise))
    data = write(image, "RGB", level=level)
    np.testing.assert_array_equal(pillow(data, "RGB"), image)
    if level >= 6:
        assert len(data) < 0.75 * image.nbytes  # the patterns, a half of the picture, are found


def test_files_are_about_as_large_as_pillows() -> None:
    data = pytest.importorskip("skimage.data")
    for image in (data.astronaut(), data.chelsea(), data.camera()[..., None]):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "PNG")
        assert len(write(image, "RGB" if image.shape[2] == 3 else "L")) < 1.03 * file.tell()


def test_a_row_filter_is_the_one_with_the_least_sum() -> None:
    """Rows that one filter leaves nothing of."""
    flat = np.zeros((4, 64, 1), np.uint8)
    flat[0] = 9  # left
    flat[1] = np.random.default_rng(0).integers(0, 256, (64, 1))
    flat[2] = flat[1]  # above
    data = write(flat, "L")
    raw = zlib.decompress(b"".join(body for kind, body in chunks_of(data) if kind == b"IDAT"))
    assert raw[0] == 1
    assert raw[2 * 65] == 2
    assert raw[2 * 65 + 1 : 3 * 65] == bytes(64)


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], len(SIGNATURE)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += length + 12
    return found


def test_a_writer_refuses_what_is_no_png() -> None:
    for size in ((0, 1), (1, 0), (-1, 1), (2**31, 1), (1, 2**31), (2**24 + 1, 1)):
        with pytest.raises(ImageError, match="choose another size"):
            PngWriter(io.BytesIO(), *size, "L", np.uint8)
    for mode, dtype in (("P", np.uint8), ("RGB", np.float32), ("L", np.int16)):
        with pytest.raises(ImageError, match="use L, LA, RGB or RGBA"):
            PngWriter(io.BytesIO(), 1, 1, mode, dtype)
    writer = PngWriter(io.BytesIO(), 4, 3, "RGB", np.uint8)
    for shape, dtype in (((1, 5, 3), np.uint8), ((1, 4, 1), np.uint8), ((1, 4, 3), np.uint16), ((4, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="do not fit"):
            writer.write(np.zeros(shape, dtype))
    writer.write(np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(ImageError, match="lacks 1 of its rows"):
        writer.close()


# --- damage and malice -----------------------------------------------------------------------------------------------


IDAT = chunk(b"IDAT", zlib.compress(bytes(3 * 10)))  # three rows of 9 bytes and their filters
END = chunk(b"IEND")
GREY = header(9, 3)


@pytest.mark.parametrize(
    "body",
    [
        GREY + END,
        GREY + IDAT,
        GREY + GREY + IDAT + END,
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
        GREY[:-1] + bytes([GREY[-1] ^ 1]) + IDAT + END,
        header(9, 3, 8, 3) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE") + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(4)) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(771)) + IDAT + END,
        header(9, 3, 8, 3) + chunk(b"PLTE", bytes(6))[:-1] + b"?" + IDAT + END,
        header(9, 3, 8, 3) + IDAT + chunk(b"PLTE", bytes(6)) + END,
        header(9, 3, 8, 3) + 2 * chunk(b"PLTE", bytes(6)) + IDAT + END,
        GREY + chunk(b"tRNS", b"\0") + IDAT + END,
        GREY + 2 * chunk(b"tRNS", b"\0\0") + IDAT + END,
        GREY + chunk(b"gAMA", bytes(4))[:-1] + b"?" + IDAT + END,
        GREY + chunk(b"WHAT") + IDAT + END,
        GREY + chunk(b"t\0Xt") + IDAT + END,
        GREY + IDAT + chunk(b"tEXt") + IDAT + END,
        GREY + struct.pack(">I4s", 2**31 - 1, b"IDAT") + IDAT + END,
        GREY + struct.pack(">I4s", 2**32 - 1, b"tEXt") + IDAT + END,
        header(9, 10**6) + IDAT + END,  # more rows than so few bytes can inflate to
        header(2**26, 2**31 - 1) + IDAT + END,
    ],
)
def test_files_that_are_refused_at_once(body: bytes) -> None:
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
def test_pixel_data_that_is_refused_when_read(idat: bytes) -> None:
    with pytest.raises(ImageError, match=DAMAGED):
        read(SIGNATURE + GREY + idat + END)


def test_files_that_are_no_png() -> None:
    for data in (
        b"",
        SIGNATURE[:5],
        SIGNATURE,
        b"GIF89a" + bytes(100),
        SIGNATURE + chunk(b"CgBI", bytes(4)) + GREY,
        SIGNATURE + IDAT + END,
    ):
        with pytest.raises(ImageError, match="is not a PNG file"):
            PngReader(io.BytesIO(data))


def test_surplus_pixel_data_and_empty_idats_are_harmless() -> None:
    data = zlib.compress(bytes(10**6)) + b"more"
    idats = chunk(b"IDAT") + chunk(b"IDAT", data[:5]) + chunk(b"IDAT") * 3000 + chunk(b"IDAT", data[5:])
    assert read(SIGNATURE + GREY + idats + END).tolist() == np.zeros((3, 9, 1)).tolist()


def test_rows_and_texts_have_a_limit() -> None:
    wide = chunk(b"IDAT", zlib.compress(bytes(2**23 + 1), 1))
    with pytest.raises(ImageError, match="rows of more than 16 MiB"):
        PngReader(io.BytesIO(SIGNATURE + header(2**23, 1, 8, 3) + chunk(b"PLTE", bytes(3)) + wide + END))
    for texts in (chunk(b"tEXt", bytes(2**20)) * 16, chunk(b"tEXt") * (2**17 + 1)):
        with pytest.raises(ImageError, match="more than 16 MiB of profiles and texts"):
            PngReader(io.BytesIO(SIGNATURE + GREY + texts + IDAT + END))


def sound_files() -> list[bytes]:
    palette = chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", bytes(9))
    return [
        write(photo(40, 50), "RGB", chunks=[(b"tEXt", b"Title\0Lions")]),
        png(random_samples(20, 20, 6, 16), 6, 16),
        png(random_samples(20, 20, 3, 4), 3, 4, before=palette),
    ]


@pytest.mark.parametrize("which", range(3))
def test_files_that_are_cut_short_are_told_at_once(which: int) -> None:
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
    """RSS of a child that writes and reads 12 and 120 MB."""
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
    """A million rows in a thousand bytes, and a gigabyte that is only declared."""
    bomb = zlib.compress(bytes(10**6), 9)
    tracemalloc.start()
    try:
        for body in (header(2**20, 2**31 - 1) + chunk(b"IDAT", bomb), GREY + struct.pack(">I4s", 2**30, b"iCCP")):
            with pytest.raises(ImageError):
                PngReader(io.BytesIO(SIGNATURE + body + END))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
