"""Clean a PNG's own chunks: EXIF and XMP data, texts, and what programs hide in texts ("Raw profile type ...")."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from edgeae.images.files import photoshop
from edgeae.images.files.embedded import has_picture
from edgeae.images.files.exif_block import drop_pictures
from edgeae.images.files.photoshop import from_profile
from edgeae.images.files.xmp import clean_xmp

Chunk = tuple[bytes, bytes]

XMP_KEY = b"XML:com.adobe.xmp"
_PROFILE = b"Raw profile type "
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # starts of what a profile of type APP1 holds
_MOST_TEXT = 1 << 26  # bytes of all texts together, unpacked


def clean_chunks(chunks: Sequence[Chunk]) -> tuple[list[Chunk], bytes, list[str]]:
    """Return chunks without pictures, Photoshop's resources that are in them, and the names of what is left out.

    EXIF and XMP data in texts become chunks of their own kind where the file has none.
    """
    kept: list[Chunk] = []
    resources, lost = list[bytes](), list[str]()
    has_exif = any(kind == b"eXIf" for kind, _ in chunks)
    left = _MOST_TEXT
    for kind, data in chunks:
        if kind == b"eXIf":
            block, removed = drop_pictures(data.removeprefix(_EXIF))
            kept += [(kind, data if block == data.removeprefix(_EXIF) else block)] if block else []
            lost += removed
            continue
        text = _text_of(kind, data, left)
        if text is None:
            if has_picture(data):
                lost.append("colour profile with a picture" if kind == b"iCCP" else "picture in a text")
            else:
                kept.append((kind, data))
            continue
        key, content = text
        left -= len(content)
        if left <= 0:
            lost.append("long texts")
            continue
        if key == XMP_KEY:
            xmp, removed = clean_xmp(content)
            kept += [(kind, data if xmp == content else _itxt(XMP_KEY, xmp))] if xmp else []
            lost += removed
        elif key.startswith(_PROFILE):
            made, block, removed = _clean_profile(key, content, (kind, data), has_exif)
            kept += made
            resources.append(block)
            lost += removed
        elif has_picture(content) or has_picture(data):
            lost.append("picture in a text")
        else:
            kept.append((kind, data))
    return kept, b"".join(resources), list(dict.fromkeys(lost))


def _clean_profile(key: bytes, text: bytes, chunk: Chunk, has_exif: bool) -> tuple[list[Chunk], bytes, list[str]]:
    """Return chunks that stand for a profile, resources in it, and what is left out of it."""
    name, profile = key.removeprefix(_PROFILE).strip().lower(), from_profile(text)
    if profile is None:
        return [], b"", [f"broken profile ({name.decode('latin-1')})"]
    if name == b"exif" or profile.startswith(_EXIF):
        block, lost = drop_pictures(profile.removeprefix(_EXIF))
        if block == profile.removeprefix(_EXIF):
            return [chunk], b"", []
        return ([(b"eXIf", block)] if block and not has_exif else []), b"", lost
    if name == b"xmp" or profile.startswith(_XMP):
        xmp, lost = clean_xmp(profile.removeprefix(_XMP))
        if xmp == profile.removeprefix(_XMP):
            return [chunk], b"", []
        return ([(b"iTXt", _itxt(XMP_KEY, xmp))] if xmp else []), b"", lost
    if name in (b"iptc", b"8bim"):
        block = profile.removeprefix(photoshop.START)
        block = block if block.startswith(b"8BIM") else photoshop.from_iptc(block)
        cleaned, lost = photoshop.clean_resources(block)
        if cleaned == block:
            return [chunk], block, []
        data = b"Raw profile type iptc\0\0" + zlib.compress(photoshop.to_profile("iptc", cleaned))
        return ([(b"zTXt", data)] if cleaned else []), cleaned, lost
    if name in (b"icc", b"icm"):
        return [chunk], b"", []
    return [], b"", [f"profile ({name.decode('latin-1')})"]


def _itxt(key: bytes, text: bytes) -> bytes:
    return key + b"\0\0\0\0\0" + text


def _text_of(kind: bytes, data: bytes, most: int) -> tuple[bytes, bytes] | None:
    """Return key and text of a text chunk, None for other chunks and for what cannot be read."""
    key, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return key, rest
    if kind == b"zTXt":
        return key, _inflate(rest[1:], most)
    if kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        text = rest.split(b"\0", 2)[-1]
        return key, _inflate(text, most) if compressed else text
    return None


def _inflate(data: bytes, most: int) -> bytes:
    """Return the text that is packed in `data`, as far as it is sound; at most `most` bytes."""
    try:
        return zlib.decompressobj().decompress(data, max(1, most))
    except zlib.error:
        return b""
