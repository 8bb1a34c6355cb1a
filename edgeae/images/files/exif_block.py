"""Change EXIF blocks in place: the notes of some cameras hold positions within the block, so nothing in it may move."""

from __future__ import annotations

import struct

import numpy as np

from edgeae.images.files import exif
from edgeae.images.files.embedded import has_picture, has_pixels

_SUBDIRECTORIES = {exif.EXIF: (exif.INTEROP,), exif.GPS: (), exif.INTEROP: ()}
# Where a directory keeps pictures: strips, tiles, JPEG data, more directories, Windows' thumbnail, Photoshop's layers.
_PICTURE_TAGS = (273, 279, 324, 325, 330, 513, 514, 20507, 34377, 37724)
# Texts of two bytes a letter, which look like pixels: Windows' title, comment, author, words, subject; user's comment.
_WIDE_TEXTS = (*range(40091, 40096), 37510)
_BYTES = (exif.BYTE, exif.UNDEFINED, 6)  # types of what may be pixels
_ICC_PROFILE, _JPEG_TABLES = 34675, 347  # the latter is the beginning of a JPEG, without a picture
_CLEANED = (_ICC_PROFILE, _JPEG_TABLES, exif.XMP, 34377, 37724)  # tags that are looked at elsewhere
_SHORT = 64  # bytes, too few for a picture
_PREVIEW_BYTES = 512  # of what belongs to no entry, from which on it is called a preview
_SPARE_BYTES = 1 << 16
_BROKEN_BYTES = 256  # a block that cannot be read is kept up to this length, too short for a picture


def reset_orientation(block: bytes) -> bytes:
    """Return an EXIF block with its orientation set to upright.

    Raises:
        struct.error: this is not an EXIF block.
    """
    order, changed = exif.byte_order(block[:2]), bytearray(block)
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", block, entry)[0] == exif.ORIENTATION:
            struct.pack_into(order + "HIHH", changed, entry + 2, exif.SHORT, 1, 1, 0)
    return bytes(changed)


def has_copy(tag: int, kind: int, value: bytes) -> bool:
    """Return whether the value of a tag, of some type, holds a picture."""
    return has_picture(value) or (kind in _BYTES and tag not in _WIDE_TEXTS and has_pixels(value))


def drop_pictures(block: bytes) -> tuple[bytes, list[str]]:
    """Return an EXIF block without thumbnail and previews, and the names of what is left out.

    Only what its directories point to stays: the thumbnail's directory is unlinked, all bytes that belong to no entry
    become zeros, and entries that hold a picture, such as a camera's notes with a preview, are removed.
    """
    try:
        cleaner = _Cleaner(block)
        return cleaner.clean()
    except struct.error:
        if len(block) <= _BROKEN_BYTES:
            return block, []
        return b"", ["broken EXIF data"]


def clean_tags(tags: exif.Tags) -> tuple[exif.Tags, list[str]]:
    """Return a TIFF's directory without tags that hold a picture besides its own, and the names of what is left out.

    XMP data and Photoshop's resources, from which pictures alone can be taken, are left to others.
    """
    kept, lost = dict(tags), list[str]()
    for tag, value in tags.items():
        if isinstance(value, exif.Field):
            if tag not in _CLEANED and len(value.data) > _SHORT and has_copy(tag, value.kind, value.data):
                del kept[tag]
                lost.append("camera notes with a preview" if tag == exif.MAKER_NOTE else "preview")
        elif not isinstance(value, bytes):
            kept[tag], inside = clean_tags(value)
            lost += inside
    return kept, list(dict.fromkeys(lost))


class _Cleaner:
    """Walks through the directories of a block, and remembers which bytes belong to them."""

    def __init__(self, block: bytes) -> None:
        self._block, self._changed = block, bytearray(block)
        self._order = exif.byte_order(block[:2])
        self._used = bytearray(len(block))  # 1 for each byte that stays
        self._seen: set[int] = set()
        self._lost: list[str] = []
        self._left = 2 * len(block) + _SPARE_BYTES  # of values: hostile blocks point to the same bytes again and again

    def clean(self) -> tuple[bytes, list[str]]:
        (start,) = struct.unpack_from(self._order + "I", self._block, 4)
        self._use(0, 8)
        if self._directory(start, (exif.EXIF, exif.GPS)):
            self._lost.insert(0, "thumbnail")
        kept = (np.frombuffer(self._changed, np.uint8) * np.frombuffer(self._used, np.uint8)).tobytes()
        if kept == self._block or (not self._lost and len(self._block) <= _BROKEN_BYTES):
            return self._block, self._lost
        erased = np.frombuffer(self._block, np.uint8)[np.frombuffer(self._used, np.uint8) == 0]
        if not self._lost and np.count_nonzero(erased) >= _PREVIEW_BYTES:
            self._lost.append("preview")
        return kept[: self._used.rfind(1) + 1], self._lost

    def _use(self, start: int, count: int) -> None:
        end = min(start + count, len(self._used))
        self._used[start:end] = b"\1" * max(0, end - start)

    def _directory(self, start: int, subdirectories: tuple[int, ...]) -> bool:
        """Clean a directory; return whether another one follows it, which is unlinked."""
        if start in self._seen:
            return False
        self._seen.add(start)
        (count,) = struct.unpack_from(self._order + "H", self._block, start)
        count = min(count, (len(self._block) - start - 2) // 12)
        kept = []
        for position in range(start + 2, start + 2 + 12 * count, 12):
            if self._entry(position, subdirectories):
                kept.append(self._block[position : position + 12])
        end = start + 2 + 12 * count
        following = self._block[end : end + 4]
        if len(kept) < count:
            struct.pack_into(self._order + "H", self._changed, start, len(kept))
        table = b"".join(kept).ljust(12 * count, b"\0")
        self._changed[start + 2 : end] = table
        self._changed[end : end + 4] = bytes(len(self._changed[end : end + 4]))
        self._use(start, 2 + 12 * count + 4)
        return len(following) == 4 and any(following)

    def _entry(self, position: int, subdirectories: tuple[int, ...]) -> bool:
        """Return whether an entry stays, and if so keep what it points to."""
        tag, kind, count = struct.unpack_from(self._order + "HHI", self._block, position)
        (at,) = struct.unpack_from(self._order + "I", self._block, position + 8)
        if tag in subdirectories:
            if at + 2 <= len(self._block):
                self._directory(at, _SUBDIRECTORIES[tag])
            return True
        size = count * exif.type_bytes(kind)
        name = "camera notes with a preview" if tag == exif.MAKER_NOTE else "preview"
        if tag in _PICTURE_TAGS:
            if name not in self._lost:
                self._lost.append(name)
            return False
        if size > 4:
            self._left -= size
            if self._left < 0:
                raise struct.error("values overlap")
            value = self._block[at : at + size]
            if has_copy(tag, kind, value):
                self._lost += [] if name in self._lost else [name]
                return False
            self._use(at, size)
        return True
