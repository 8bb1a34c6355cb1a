"""TIFFs of several pages, BigTIFF, and descriptive tags: what is copied, what is left out, what is refused."""

import io
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.errors import ImageError
from edgeae.images.files import exif
from edgeae.images.files.reader import Photo
from edgeae.inference.photo import Options, restore

SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})
PAGES = [Image.fromarray(photo(40, 56, 3, seed)) for seed in range(3)]


def file(first: Image.Image, *others: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=bool(others), append_images=list(others), **options)
    return out.getvalue()


def through(data: bytes, **options: Any) -> tuple[bytes, str]:
    out = io.BytesIO()
    note = restore(data, out, SESSION, Options(**options), name="photo", network=lambda piece: 1 - piece).note
    return out.getvalue(), note


def pages_of(data: bytes) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(data))
    pages = []
    for index in range(image.n_frames):
        image.seek(index)
        pages.append(np.array(image.convert("RGB")))
    return pages


KINDS: dict[str, tuple[list[Image.Image], dict[str, Any]]] = {
    "raw": (PAGES, {}),
    "deflate": (PAGES, {"compression": "tiff_adobe_deflate"}),
    "lzw": (PAGES, {"compression": "tiff_lzw"}),
    "jpeg": (PAGES, {"compression": "jpeg"}),
    "fax": ([page.convert("1") for page in PAGES], {"compression": "group4"}),
    "grey": ([page.convert("L") for page in PAGES], {}),
    "of-many-kinds": ([PAGES[0], PAGES[1].convert("L"), PAGES[2].convert("1")], {}),
    "of-many-sizes": ([PAGES[0], PAGES[1].resize((30, 90)), PAGES[2].resize((200, 10))], {}),
    "palette": ([PAGES[0], PAGES[1].quantize(16), PAGES[2].quantize(4)], {}),
    "bigtiff": (PAGES, {"big_tiff": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_pages_are_copied(kind: str) -> None:
    pages, options = KINDS[kind]
    data = file(*pages, **options)
    result, note = through(data)
    assert note == "it has 3 pages, of which the first is restored; the other 2 are copied"
    before, after = pages_of(data), pages_of(result)
    assert len(after) == 3
    for old, new in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(new, old)
    assert np.abs(after[0].astype(int) - (255 - before[0])).mean() < 9
    again, _ = through(result)
    for old, new in zip(after[1:], pages_of(again)[1:], strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("deep", [False, True])
def test_pages_of_a_big_endian_file(deep: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    x = [photo(40, 56, 3, seed).astype(np.uint16) * 257 if deep else photo(40, 56, 3, seed) for seed in range(2)]
    out = io.BytesIO()
    with tifffile.TiffWriter(out, byteorder=">") as writer:
        for page in x:
            writer.write(page, photometric="rgb", metadata=None)
    data = out.getvalue()
    if not deep:
        result, _ = through(data)
        np.testing.assert_array_equal(pages_of(result)[1], x[1])
        return
    with pytest.raises(
        ImageError, match=r"photo cannot be kept whole: it has 2 pages, .*; `allow_loss` writes that\.$"
    ):
        through(data)
    result, note = through(data, allow_loss=True)
    assert "only the first is kept" in note and len(pages_of(result)) == 1


def test_deep_pages() -> None:
    tifffile = pytest.importorskip("tifffile")
    x = [photo(40, 56, 3, seed).astype(np.uint16) * 257 for seed in range(3)]
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for page in x:
            writer.write(page, photometric="rgb", metadata=None, compression="zlib")
    result, _ = through(out.getvalue(), strength=0)
    found = tifffile.TiffFile(io.BytesIO(result))
    assert len(found.pages) == 3
    for page, old in zip(found.pages, x, strict=True):
        np.testing.assert_array_equal(page.asarray(), old)


@pytest.mark.parametrize("flagged", [False, True])
def test_smaller_copies_are_left_out(flagged: bool) -> None:
    small = PAGES[0].resize((28, 20))
    if flagged:
        small.encoderinfo = {"tiffinfo": {254: 1}}
    result, note = through(file(PAGES[0], small, PAGES[1]))
    assert "2 pages" in note and "without its smaller copies" in note
    assert len(pages_of(result)) == 2
    np.testing.assert_array_equal(pages_of(result)[1], np.asarray(PAGES[1]))


def test_a_page_that_repeats_the_first_shows_the_result() -> None:
    result, note = through(file(PAGES[0], PAGES[0], PAGES[1]))
    assert "3 pages" in note
    first, second, third = pages_of(result)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, np.asarray(PAGES[1]))
    assert (first != np.asarray(PAGES[0])).any()


def test_a_smaller_copy_of_a_deep_picture_is_left_out() -> None:
    tifffile = pytest.importorskip("tifffile")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for step in (1, 2):
            page = photo(40, 56, 3)[::step, ::step].astype(np.uint16) * 257
            writer.write(page, photometric="rgb", metadata=None)
    result, note = through(out.getvalue())
    assert "smaller copies" in note and len(tifffile.TiffFile(io.BytesIO(result)).pages) == 1


def test_pages_do_not_fit_into_other_formats(tmp_path) -> None:
    source = tmp_path / "scan.tif"
    source.write_bytes(file(*PAGES))
    note = restore(source, tmp_path / "scan.png", SESSION, network=lambda piece: piece).note
    assert note == "it has 3 pages, of which only the first is kept"


def test_a_chain_of_pages_that_loops() -> None:
    data = bytearray(file(PAGES[0]))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    result, note = through(bytes(data))
    assert note == "" and len(pages_of(result)) == 1


# ---- tags ------------------------------------------------------------------------------------------------------------

TEXTS = {270: "Grandmother 1931", 315: "Anna", 33432: "(c) Anna", 269: "Box 3", 285: "Page", 305: "Scan 1", 316: "pc"}


@pytest.mark.parametrize(
    "options", [{}, {"big_tiff": True}, {"compression": "tiff_lzw"}], ids=["tiff", "bigtiff", "lzw"]
)
def test_descriptive_tags_stay(options: dict[str, Any]) -> None:
    result, note = through(file(PAGES[0], tiffinfo=TEXTS, **options))
    image = Image.open(io.BytesIO(result))
    assert {tag: image.tag_v2.get(tag) for tag in TEXTS} == TEXTS
    assert note == ""


def test_tags_of_a_big_endian_bigtiff() -> None:
    tifffile = pytest.importorskip("tifffile")
    out = io.BytesIO()
    extra = [(315, "s", 0, "Anna", True), (33432, "s", 0, "(c) Anna", True), (33550, "d", 3, (1.5, 2.5, 0.0), True)]
    layout = {"bigtiff": True, "byteorder": ">", "metadata": None}
    tifffile.imwrite(out, photo(), photometric="rgb", description="sea", extratags=extra, **layout)
    image = Image.open(io.BytesIO(through(out.getvalue())[0]))
    assert (image.tag_v2[270], image.tag_v2[315], image.tag_v2[33432]) == ("sea", "Anna", "(c) Anna")
    assert image.tag_v2[33550] == (1.5, 2.5, 0.0)


@pytest.mark.parametrize("order", ["<", ">"])
def test_captions_stored_as_numbers(order: str) -> None:
    """IPTC data as LONG, as libtiff's users store them, in either byte order."""
    tifffile = pytest.importorskip("tifffile")
    captions = b"\x1c\x02x\0\3sea\x1c\x02P\0\4Anna" + bytes(3)
    captions += bytes(-len(captions) % 4)
    values = struct.unpack(f"<{len(captions) // 4}I", captions)
    out = io.BytesIO()
    extra = [(33723, "I", len(values), values, True)]
    tifffile.imwrite(out, photo(), photometric="rgb", byteorder=order, extratags=extra, metadata=None)
    for _ in range(2):
        out = io.BytesIO(through(out.getvalue())[0])
        found = Image.open(out).tag_v2[33723]
        assert found == captions


def test_a_tag_that_is_there_twice_counts_once() -> None:
    data = file(PAGES[0], tiffinfo={270: "first"})
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries.insert(5, struct.pack("<HHI4s", 270, 2, 4, b"two\0"))
    entries.insert(9, struct.pack("<HHI4s", 315, 2, 3, b"me\0\0"))
    entries.insert(9, struct.pack("<HHI4s", 315, 2, 3, b"Al\0\0"))
    entries.sort(key=lambda entry: entry[:2][::-1])
    table = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    twice = data[:4] + struct.pack("<I", len(data)) + data[8:] + table
    before, after = Image.open(io.BytesIO(twice)), Image.open(io.BytesIO(through(twice)[0]))
    for tag in (270, 315):
        assert after.tag_v2[tag] == before.tag_v2[tag]
    raw = through(twice)[0]
    (start,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, start)
    numbers = [struct.unpack_from("<H", raw, at)[0] for at in range(start + 2, start + 2 + 12 * count, 12)]
    assert numbers == sorted(set(numbers))


def test_an_extra_channel_is_told() -> None:
    x = photo(24, 36, 4)
    out = exif.replace_tags(file(Image.fromarray(x)), {338: exif.Field(exif.SHORT, 1, b"\0\0")})
    with Photo(out) as opened:
        assert opened.note == "without its extra channels"
