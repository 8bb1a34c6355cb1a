"""The pages of a TIFF: which of them is the picture, which are smaller copies of it, and how the others are copied."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from edgeae.images.files import exif, photoshop
from edgeae.images.files.exif_block import clean_tags
from edgeae.images.files.signatures import RAW, has_raw_suffix
from edgeae.images.files.xmp import clean_xmp

SMALL_PREVIEW = (
    "shows a small preview first and holds the picture behind it: export the picture as a plain TIFF or JPEG."
)

_SUBDIRECTORIES = 330
_RAW_PHOTOMETRICS = (32803, 34892)  # a sensor's colour filter, and what a DNG makes of it
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)  # Sony, Epson, Samsung, Nikon, Kodak, Pentax
_DNG_VERSION = 50706
_JPEG_DATA = (513, 514, 519, 520, 521)  # of the old kind of JPEG in TIFF, whose positions are all over the file
_DROPPED = (_SUBDIRECTORIES, 37724, 34377, exif.XMP, *_JPEG_DATA)  # taken over otherwise, or not at all
_OLD_JPEG = 6
_PIECES = ((273, 279), (324, 325))  # tags of the positions and lengths of strips, and of tiles
_SIZE = 4  # GiB that positions in a TIFF reach
_ALIKE = 12  # grey levels of mean difference, under which two small pictures are one
_COMPARED = 32  # pixels a side
_MOST_COMPARED = 64  # pages


@dataclass
class Pages:
    """The pages of a TIFF.

    Attributes:
        tags: of the first page.
        order: of the file's bytes, as `struct` writes it.
        others: directories of pages that are pictures of their own, empty for one that repeats the first.
        copies: whether there are smaller copies of the first.
        refused: why the file cannot be taken for a photo, or empty.
        stuck: why the other pages cannot be copied, or empty.
    """

    tags: exif.Tags
    order: str
    others: list[exif.Tags] = field(default_factory=list)
    copies: bool = False
    refused: str = ""
    stuck: str = ""


def sort_pages(read: exif.Read, name: str, image: Image.Image | None = None) -> Pages:
    """Sort the pages of a TIFF.

    Args:
        read: reads its bytes.
        name: of the file, for its extension.
        image: it, opened by Pillow, to compare pages; None leaves that out.

    Raises:
        struct.error: it has no first directory.
    """
    layout = exif.parse_layout(read)
    first, *others = exif.parse_pages(read)
    beside = list(_subdirectories(read, first))
    pages = Pages(first, layout.order)
    if _is_raw([first, *others, *beside], name, bool(beside)):
        pages.refused = RAW
        return pages
    reduced = [page for page in (*others, *beside) if _is_reduced(page)]
    if any(_area(page) > _area(first) for page in beside) or (
        _is_reduced(first) and any(not _is_reduced(page) and _area(page) > _area(first) for page in others)
    ):
        pages.refused = SMALL_PREVIEW
    pages.copies = bool(reduced or beside)
    for index, page in enumerate(others, 1):
        if _is_reduced(page):
            continue
        if _size_of(page) == _size_of(first):
            pages.others.append({} if _repeats(read, first, page) else page)
        elif image is not None and index <= _MOST_COMPARED and _same_shape(first, page) and _alike(image, index):
            pages.copies = True
            if _area(page) > _area(first):
                pages.refused = SMALL_PREVIEW
        else:
            pages.others.append(page)
    if image is not None:
        image.seek(0)
    pages.stuck = next(filter(None, (_why_stuck(page, layout.order) for page in pages.others if page)), "")
    return pages


def _subdirectories(read: exif.Read, page: exif.Tags, depth: int = 2) -> Iterator[exif.Tags]:
    for position in exif.numbers(page, _SUBDIRECTORIES)[:64]:
        try:
            tags = exif.parse_directory(read, position)
        except struct.error:
            continue
        yield tags
        if depth:
            yield from _subdirectories(read, tags, depth - 1)


def _is_raw(directories: Sequence[exif.Tags], name: str, has_more: bool) -> bool:
    first = directories[0]
    if _DNG_VERSION in first or (has_raw_suffix(name) and (has_more or _is_reduced(first) or 513 in first)):
        return True
    return any(
        exif.number(tags, 262) in _RAW_PHOTOMETRICS or exif.number(tags, 259) in _RAW_COMPRESSIONS
        for tags in directories
    )


def _is_reduced(page: exif.Tags) -> bool:
    return bool(exif.number(page, 254) & 1) or exif.number(page, 255) == 2


def _size_of(page: exif.Tags) -> tuple[int, int]:
    return exif.number(page, 256), exif.number(page, 257)


def _area(page: exif.Tags) -> int:
    width, height = _size_of(page)
    return width * height


def _same_shape(first: exif.Tags, page: exif.Tags) -> bool:
    """Return whether two pages have the same aspect ratio, within the rounding of the smaller."""
    (width, height), (other_width, other_height) = _size_of(first), _size_of(page)
    return abs(width * other_height - height * other_width) <= 1.5 * max(width, height, other_width, other_height)


def _alike(image: Image.Image, index: int) -> bool:
    """Return whether a page shows what the first shows."""
    small = []
    try:
        for page in (0, index):
            image.seek(page)
            small.append(np.asarray(image.convert("L").resize((_COMPARED, _COMPARED), Image.Resampling.BOX), float))
    except Exception:  # a page that cannot be read is none that can be compared
        return False
    return float(np.abs(small[0] - small[1]).mean()) < _ALIKE


def _repeats(read: exif.Read, first: exif.Tags, page: exif.Tags) -> bool:
    """Return whether a page is stored as the first is, byte for byte."""
    for starts_tag, counts_tag in _PIECES:
        counts = exif.numbers(first, counts_tag)
        if counts != exif.numbers(page, counts_tag):
            return False
        for start, other, count in zip(
            exif.numbers(first, starts_tag), exif.numbers(page, starts_tag), counts, strict=False
        ):
            if start != other and read(start, count) != read(other, count):
                return False
    return True


# ---- copying ---------------------------------------------------------------------------------------------------------


def _why_stuck(page: exif.Tags, order: str) -> str:
    if exif.number(page, 259) == _OLD_JPEG:
        return "a page has an old kind of JPEG compression"
    if order == ">" and max(exif.numbers(page, 258), default=1) > 8:
        return "its bytes are in big-endian order"
    if not (exif.numbers(page, 273) or exif.numbers(page, 324)):
        return "a page has no pixels"
    return ""


def append_pages(file: bytes, read: exif.Read, pages: Sequence[exif.Tags]) -> bytes:
    """Return a little-endian TIFF file of one page with copies of other pages behind it.

    Args:
        file: the file of one page.
        read: reads the bytes of the file that the pages are from.
        pages: their directories, an empty one for a page that shows what the file does.
    """
    parts = [file, bytes(len(file) % 2)]
    position = sum(map(len, parts))
    (directory,) = struct.unpack_from("<I", file, 4)
    links = [directory + 2 + 12 * struct.unpack_from("<H", file, directory)[0]]  # where the next one's position stands
    for page in pages:
        tags = dict(clean_tags({tag: value for tag, value in page.items() if tag not in _DROPPED})[0])
        for starts_tag, counts_tag in _PIECES:
            starts, counts = exif.numbers(page, starts_tag), exif.numbers(page, counts_tag)
            moved = []
            for start, count in zip(starts, counts, strict=False):
                data = read(start, count)
                moved.append(position)
                parts += [data, bytes(len(data) % 2)]
                position += len(data) + len(data) % 2
            if moved:
                tags[starts_tag] = exif.Field(exif.LONG, len(moved), struct.pack(f"<{len(moved)}I", *moved))
        tags = tags if page else dict(exif.own_entries(file))
        if isinstance(xmp := page.get(exif.XMP), exif.Field) and (cleaned := clean_xmp(xmp.data)[0]):
            tags[exif.XMP] = exif.Field(exif.BYTE, len(cleaned), cleaned)
        if isinstance(block := page.get(34377), exif.Field):
            tags |= photoshop.to_tags(photoshop.clean_resources(block.data)[0])
        table = exif.pack_tags(tags, position)
        links += [position, position + 2 + 12 * len(tags)]
        parts += [table, bytes(len(table) % 2)]
        position += len(table) + len(table) % 2
    whole = bytearray(b"".join(parts))
    for at, target in zip(links[::2], links[1::2], strict=False):
        struct.pack_into("<I", whole, at, target)
    return bytes(whole)
