"""A number plate that is masked out is nowhere in the result: in no thumbnail, preview, text or second picture.

Photos are made with a copy of themselves in every place that metadata have for one. In the results all bytes are
searched: for pictures that Pillow can decode from any position, for base64, hexadecimal digits and zlib streams that
hold such pictures, and for the plate's own rows of uncompressed pixels.
"""

import base64
import binascii
import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.png_files import chunk
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.images.files.metadata import Metadata
from edgeae.images.files.reader import Photo
from edgeae.inference.photo import restore

WIDTH, HEIGHT = 128, 96
PLATE = (slice(40, 64), slice(32, 80))  # rows, columns
SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})
BITS = np.random.default_rng(5).integers(0, 2, (3, 6), np.uint8) * 255


def scene() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([90 + x // 2, 110 + y // 2, 100 + (x + y) // 4], axis=-1).astype(np.uint8)
    pixels[PLATE] = np.kron(BITS, np.ones((8, 8), np.uint8))[..., None]
    return pixels


SCENE = scene()
THUMB = np.asarray(Image.fromarray(SCENE).resize((64, 48), Image.Resampling.BOX))
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[36:68, 28:84] = 255


def file(pixels: np.ndarray, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


JPEG, PNG, GIF, BMP = (file(THUMB, format) for format in ("JPEG", "PNG", "GIF", "BMP"))
RAW = THUMB.tobytes()


def shows_plate(image: Image.Image) -> bool:
    """Whether a picture of any size shows the plate where the scene has it."""
    gray = np.asarray(image.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BOX), float)[PLATE]
    blocks = gray.reshape(3, 8, 6, 8).mean(axis=(1, 3))
    return bool(blocks.std() > 15 and np.corrcoef(blocks.ravel(), BITS.ravel())[0, 1] > 0.8)


STARTS = re.compile(rb"\xd8\xff|\x89PNG|II[*+]\0|MM\0[*+]|GIF8|RIFF....WEBP|BM....\0\0\0\0|....ftyp", re.S)


def pictures(data: bytes, depth: int = 2) -> Iterator[Image.Image]:
    """All that can be decoded from any position of `data`."""
    for match in STARTS.finditer(data):
        start = match.start()
        part = b"\xff" + data[start:] if data[start : start + 2] == b"\xd8\xff" else data[start:]
        try:
            image = Image.open(io.BytesIO(part))
            for index in range(min(getattr(image, "n_frames", 1), 9)):
                image.seek(index)
                yield image.convert("RGB")
        except Exception:
            continue
    if not depth:
        return
    for text in re.findall(rb"[A-Za-z0-9+/=\s]{200,}", data.replace(b"&#xA;", b"\n")):
        letters = b"".join(text.split())
        for shift in range(4):
            whole = letters[shift:].rstrip(b"=")
            whole = whole[: len(whole) - (len(whole) % 4 == 1)]
            yield from pictures(base64.b64decode(whole + b"=" * (-len(whole) % 4)), depth - 1)
    for digits in re.findall(rb"(?:[0-9a-fA-F]\s*){200,}", data):
        joined = b"".join(digits.split())
        yield from pictures(binascii.unhexlify(joined[: len(joined) // 2 * 2]), depth - 1)
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        try:
            yield from pictures(zlib.decompressobj().decompress(data[match.start() :]), depth - 1)
        except zlib.error:
            continue


ROWS = [THUMB[25, 18:38].tobytes(), THUMB[25, 18:38, 0].tobytes()]


def leaks(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return any(row in data for row in ROWS) or any(map(shows_plate, pictures(data)))


def test_the_search_finds_copies() -> None:
    for hidden in (JPEG, PNG, GIF, BMP, RAW, base64.b64encode(JPEG), PNG.hex().encode(), zlib.compress(JPEG)):
        assert leaks(bytes(99) + hidden + bytes(99))
    assert not leaks(file(THUMB[:, ::-1], "JPEG"))


# ---- copies in every place -------------------------------------------------------------------------------------------


def tiff_block(
    entries: list[tuple[int, int, int, bytes]], second: list[tuple[int, int, int, bytes]], big: bool
) -> bytes:
    """EXIF data with two directories; values longer than 4 bytes come after both."""
    order = ">" if big else "<"
    start = 8
    block = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", start)
    tables = [entries, second] if second else [entries]
    at = start + sum(2 + 12 * len(table) + 4 for table in tables)
    extra, position = b"", start
    for index, table in enumerate(tables):
        block += struct.pack(order + "H", len(table))
        for tag, kind, count, value in sorted(table):
            block += struct.pack(order + "HHI", tag, kind, count)
            if len(value) <= 4:
                block += value.ljust(4, b"\0")
            else:
                block += struct.pack(order + "I", at + len(extra))
                extra += value + bytes(len(value) % 2)
        position += 2 + 12 * len(table) + 4
        block += struct.pack(order + "I", position if index + 1 < len(tables) else 0)
    return block + extra


def exif_with_thumbnail(kind: str, big: bool) -> bytes:
    """EXIF data whose second directory is a thumbnail: JPEG data, or uncompressed pixels."""
    order = ">" if big else "<"
    long = lambda value: struct.pack(order + "I", value)  # noqa: E731
    short = lambda *values: struct.pack(f"{order}{len(values)}H", *values)  # noqa: E731
    data = JPEG if kind == "jpeg" else RAW
    first = [(271, 2, 5, b"Edge\0"), (274, 3, 1, short(1))]
    for position in (0, 10_000):  # twice, as the position is known only then
        if kind == "jpeg":
            second = [(259, 3, 1, short(6)), (513, 4, 1, long(position)), (514, 4, 1, long(len(data)))]
        else:
            second = [
                (256, 4, 1, long(64)), (257, 4, 1, long(48)), (258, 3, 3, short(8, 8, 8)), (259, 3, 1, short(1)),
                (262, 3, 1, short(2)), (273, 4, 1, long(position)), (277, 3, 1, short(3)), (278, 4, 1, long(48)),
                (279, 4, 1, long(len(data))),
            ]  # fmt: skip
        block = tiff_block(first, second, big)
        if position:
            break
    second = [(tag, k, n, long(len(block)) if tag in (513, 273) else value) for tag, k, n, value in second]
    return tiff_block(first, second, big) + data


def exif_with_notes(note: bytes, after: bytes = b"") -> bytes:
    """EXIF data with a camera's notes, and bytes behind all directories that only the camera knows."""
    inner = struct.pack("<H", 2) + struct.pack("<HHI4s", 33434, 5, 1, b"\0" * 4)
    make = (271, 2, 5, b"Edge\0")
    block = tiff_block([make, (34665, 4, 1, bytes(4))], [], False)
    table_at = len(block)
    block = tiff_block([make, (34665, 4, 1, struct.pack("<I", table_at))], [], False)
    note_at = table_at + 2 + 24 + 4
    inner = struct.pack("<H", 2)
    inner += struct.pack("<HHII", 34855, 3, 1, 400) + struct.pack("<HHII", 37500, 7, len(note), note_at) + bytes(4)
    return block + inner + note + after


XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:GImage="http://ns.google.com/photos/1.0/image/" '
    'xmlns:a="http://vendor.example/" dc:source="at the sea"{attributes}>{elements}</rdf:Description></rdf:RDF>'
    '</x:xmpmeta><?xpacket end="w"?>'
)


def xmp(attributes: str = "", elements: str = "") -> bytes:
    return XMP.format(attributes=attributes, elements=elements).encode()


B64 = base64.b64encode(JPEG).decode()
XMPS = {
    "xmp-thumbnails": xmp(
        elements="<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'><xmpGImg:format>JPEG</xmpGImg:format>"
        f"<xmpGImg:image>{B64}</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    ),
    "xmp-thumbnails-in-lines": xmp(
        elements="<xmp:Thumbnails><rdf:Alt><rdf:li><rdf:Description xmpGImg:format='JPEG' "
        f"xmpGImg:image='{'&#xA;'.join(re.findall('.{1,76}', B64))}'/></rdf:li></rdf:Alt></xmp:Thumbnails>"
    ),
    "xmp-google-image": xmp(f' GImage:Mime="image/jpeg" GImage:Data="{B64}"'),
    "xmp-unknown-attribute": xmp(f' a:shot="{B64}"'),
    "xmp-unknown-element": xmp(elements=f"<a:shot>\n{base64.b64encode(PNG).decode()}\n</a:shot>"),
}


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def iptc(dataset: int, data: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, 2, dataset, len(data)) + data


CAPTION = resource(1028, b"\x1c\x02x\0\x03sea")
PHOTOSHOP_THUMB = struct.pack(">IIIIIIHH", 1, 64, 48, 192, len(RAW), len(JPEG), 24, 1) + JPEG
RESOURCES = {
    "8bim-1036": CAPTION + resource(1036, PHOTOSHOP_THUMB),
    "8bim-1033-raw": resource(1033, struct.pack(">IIIIIIHH", 0, 64, 48, 192, len(RAW), len(RAW), 24, 1) + RAW)
    + CAPTION,
    "8bim-exif": CAPTION + resource(1058, exif_with_thumbnail("jpeg", True)),
    "8bim-xmp": CAPTION + resource(1060, XMPS["xmp-thumbnails"]),
    "8bim-plugin-uncompressed": CAPTION + resource(4005, RAW),
    "8bim-preview-among-captions": resource(1028, b"\x1c\x02x\0\x03sea" + iptc(202, JPEG)),
    "8bim-plugin": CAPTION + resource(4005, b"mani" + PNG),
}
PACKED = zlib.compress(RAW)
EXIFS = {
    "exif-thumbnail": exif_with_thumbnail("jpeg", False),
    "exif-thumbnail-big-endian": exif_with_thumbnail("jpeg", True),
    "exif-thumbnail-uncompressed": exif_with_thumbnail("raw", False),
    "exif-thumbnail-uncompressed-big-endian": exif_with_thumbnail("raw", True),
    "notes-jpeg": exif_with_notes(b"EDGE\0\1" + bytes(20) + JPEG + bytes(9)),
    "notes-changed-first-byte": exif_with_notes(b"MLT0" + bytes(20) + b"\2" + JPEG[1:]),
    "notes-uncompressed": exif_with_notes(b"EDGE\0\1" + bytes(20) + RAW + bytes(9)),
    "notes-uncompressed-gray": exif_with_notes(b"EDGE" + np.asarray(Image.fromarray(SCENE).convert("L")).tobytes()),
    "notes-preview-behind": exif_with_notes(b"SONY DSC \0\0\0" + bytes(40), JPEG),
    "notes-raw-behind": exif_with_notes(b"EDGE" + bytes(40), RAW),
    "windows-thumbnail": tiff_block([(271, 2, 5, b"Edge\0"), (20507, 1, len(RAW), RAW)], [], False),
    "private-packed": tiff_block([(271, 2, 5, b"Edge\0"), (50001, 7, len(PACKED), PACKED)], [], False),
    "private-uncompressed": tiff_block([(271, 2, 5, b"Edge\0"), (50001, 7, len(RAW), RAW)], [], False),
    "comment-jpeg": tiff_block([(270, 2, len(JPEG), JPEG), (271, 2, 5, b"Edge\0")], [], False),
}
TEXTS = {
    "text-base64": ("Thumb::Image", B64),
    "text-profile-exif": ("Raw profile type exif", EXIFS["exif-thumbnail"]),
    "text-profile-app1": ("Raw profile type APP1", b"Exif\0\0" + EXIFS["exif-thumbnail"]),
    "text-profile-xmp": ("Raw profile type xmp", XMPS["xmp-thumbnails"]),
    "text-profile-8bim": ("Raw profile type 8bim", RESOURCES["8bim-1036"]),
    "text-profile-unknown": ("Raw profile type shot", JPEG),
}


def segment(marker: int, data: bytes) -> bytes:
    assert len(data) < 65_534
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def extended(document: bytes) -> tuple[bytes, bytes]:
    """The main XMP data and the segment of the extended ones."""
    digits = hashlib.md5(document).hexdigest().upper().encode()
    main = xmp(' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + digits.decode() + '"')
    head = b"http://ns.adobe.com/xmp/extension/\0" + digits + struct.pack(">II", len(document), 0)
    return main, segment(0xE1, head + document)


def jpeg_with(name: str) -> bytes:
    options: dict[str, object] = {"quality": 90}
    if name in EXIFS:
        options["exif"] = b"Exif\0\0" + EXIFS[name]
    elif name in XMPS:
        options["xmp"] = XMPS[name]
    elif name in RESOURCES:
        options["extra"] = segment(0xED, b"Photoshop 3.0\0" + RESOURCES[name])
    elif name == "extended-xmp":
        options["xmp"], options["extra"] = extended(XMPS["xmp-google-image"])
    elif name in SEGMENTS:
        options["extra"] = SEGMENTS[name]
    elif name == "comment":
        options["comment"] = JPEG
    data = file(SCENE, "JPEG", **options)
    return data + TRAILERS.get(name, b"")


SEGMENTS = {
    "jfxx-jpeg": segment(0xE0, b"JFXX\0\x10" + JPEG),
    "jfxx-raw": segment(0xE0, b"JFXX\0\x13\x40\x30" + RAW),
    "flashpix": segment(0xE2, b"FPXR\0\0\2" + bytes(8) + JPEG),
    "c2pa": segment(0xEB, b"JP\0\1\0\0\0\1" + struct.pack(">I4s", 16 + len(JPEG), b"jumb") + JPEG),
    "flir": segment(0xE1, b"FLIR\0\1\0\0" + JPEG),
    "maker-segment": segment(0xE4, b"SAMSUNG" + JPEG),
}
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + struct.pack(">I4s", 8 + len(JPEG), b"mdat") + JPEG
TRAILERS = {
    "second-picture": file(SCENE, "JPEG"),
    "motion-video": MP4,
    "samsung-trailer": JPEG + b"\0\0\x01\x0aMotionPhoto_DataSEFH" + bytes(12) + b"SEFT",
}
JPEGS = [*EXIFS, *XMPS, *RESOURCES, *SEGMENTS, *TRAILERS, "extended-xmp", "comment"]


def png_with(name: str) -> bytes:
    data = file(SCENE, "PNG")
    if name in EXIFS:
        extra = chunk(b"eXIf", EXIFS[name])
    elif name in XMPS:
        extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMPS[name])
    elif name == "c2pa":
        extra = chunk(b"caBX", JPEG)
    elif name == "profile-behind":
        extra = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"a profile") + JPEG)
    elif name == "after-end":
        return data + JPEG
    else:
        key, content = TEXTS[name]
        if isinstance(content, str):
            extra = chunk(b"tEXt", key.encode() + b"\0" + content.encode())
        else:
            word = key.rpartition(" ")[2]
            extra = chunk(
                b"zTXt",
                key.encode() + b"\0\0" + zlib.compress(f"\n{word}\n{len(content):8}\n{content.hex()}\n".encode()),
            )
    return data[:33] + extra + data[33:]


PNGS = [*EXIFS, *XMPS, *TEXTS, "c2pa", "profile-behind", "after-end"]


def webp_with(name: str) -> bytes:
    if name in EXIFS:
        return file(SCENE, "WEBP", lossless=True, exif=b"Exif\0\0" + EXIFS[name])
    return file(SCENE, "WEBP", lossless=True, xmp=XMPS[name])


WEBPS = [*EXIFS, *XMPS]


def tiff_with(name: str) -> bytes:
    tags: dict[int, object] = {271: "Edge"}
    if name in XMPS:
        tags[700] = XMPS[name]
    elif name in RESOURCES:
        tags[34377] = RESOURCES[name]
    elif name == "private-tag":
        tags[65000] = JPEG
    elif name == "layers":
        tags[37724] = b"Adobe Photoshop Document Data Block\0" + RAW
    elif name == "description":
        tags[270] = B64
    if name == "same-page":
        return file(SCENE, "TIFF", save_all=True, append_images=[Image.fromarray(SCENE)])
    if name in ("small-page", "small-page-flagged"):
        small = Image.fromarray(THUMB)
        if name.endswith("flagged"):
            small.encoderinfo = {"tiffinfo": {254: 1}}  # type: ignore[attr-defined]
        return file(SCENE, "TIFF", save_all=True, append_images=[small])
    data = file(SCENE, "TIFF", tiffinfo=tags)
    if name in ("subifd", "notes-in-tiff", "comment-in-tiff"):
        from edgeae.images.files import exif

        long = lambda *values: exif.Field(4, len(values), struct.pack(f"<{len(values)}I", *values))  # noqa: E731
        if name == "subifd":
            data += bytes(len(data) % 2)
            small = {256: long(64), 257: long(48), 258: long(8, 8, 8), 259: long(1), 262: long(2), 277: long(3)}
            small |= {254: long(1), 273: long(len(data)), 278: long(48), 279: long(len(RAW))}
            data += RAW
            table = exif.pack_tags(small, len(data))
            data = exif.add_tags(data + table, {330: long(len(data))})
        else:
            tag = 37500 if name == "notes-in-tiff" else 37510
            data = exif.add_tags(data, {34665: {tag: exif.Field(7, len(JPEG), JPEG)}})
    return data


TIFFS = [*XMPS, *RESOURCES, "private-tag", "layers", "description", "small-page", "small-page-flagged", "subifd"]
TIFFS += ["notes-in-tiff", "comment-in-tiff", "same-page"]
SOURCES: list[tuple[str, str, Callable[[str], bytes]]] = [
    *(("jpg", name, jpeg_with) for name in JPEGS),
    *(("png", name, png_with) for name in PNGS),
    *(("webp", name, webp_with) for name in WEBPS),
    *(("tif", name, tiff_with) for name in TIFFS),
]


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    Image.fromarray(MASK).save(path)
    return path


@pytest.mark.parametrize(("format", "name", "make"), SOURCES, ids=[f"{f}-{n}" for f, n, _ in SOURCES])
def test_the_plate_is_nowhere_in_the_result(
    format: str, name: str, make: Callable[[str], bytes], mask, tmp_path
) -> None:
    data = make(name)
    assert leaks(data)
    source = tmp_path / f"photo.{format}"
    source.write_bytes(data)
    for target in ("jpg", "png", "webp", "tif"):
        out = tmp_path / f"out.{target}"
        result = restore(source, out, SESSION, mask=mask, network=lambda piece: np.full_like(piece, 0.5))
        found = out.read_bytes()
        assert not leaks(found), target
        if name not in ("notes-preview-behind", "notes-raw-behind", "private-tag", "same-page"):
            assert "without its" in result.note
        if name in XMPS and not name.startswith("8bim"):
            kept = Image.open(io.BytesIO(found)).info["xmp"]
            assert b"at the sea" in kept and b"Thumbnails" not in kept and b"GImage:Data" not in kept


@pytest.mark.parametrize("name", ["8bim-1036", "8bim-preview-among-captions"])
def test_captions_of_photoshop_stay(name: str, tmp_path) -> None:
    for format, make in (("jpg", jpeg_with), ("tif", tiff_with)):
        source = tmp_path / f"photo.{format}"
        source.write_bytes(make(name))
        for target in ("jpg", "png", "tif"):
            out = tmp_path / f"out.{target}"
            restore(source, out, SESSION, network=lambda piece: piece)
            with Photo(out) as photo:
                metadata: Metadata = photo.metadata
                assert CAPTION in metadata.resources, (format, target)
