"""Say what a file is that is no picture to be read, by its first bytes: raw files, HEIC, videos, documents...

Each sentence continues after the file's name and ends with the mend. A file's content counts before its extension: a
TIFF that is called .dng is read, a HEIC picture that is called .jpg is named. Only raw files need the extension too,
where a maker stores them as plain TIFF.
"""

from __future__ import annotations

import re
import struct
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

from PIL import features

from edgeae.images.files import exif

HEAD_BYTES = 4096
RAW = "is a raw file: develop it first (export it as TIFF or JPEG)."
HEIC = "is a HEIC picture: pip install 'edgeae[heif]' to read it."
AVIF = "is an AVIF picture, which this Pillow cannot read: pip install 'pillow>=11.3'."

# Extensions of raw files, by maker: those that no other kind of file has.
RAW_SUFFIXES = (
    ".3fr", ".ari", ".arq", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".eip",
    ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".ptx", ".r3d", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_RAW_STARTS = (
    b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"ARRI",
)  # fmt: skip
_CR2 = b"CR"  # at byte 8 of a TIFF

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

_NOT = "is not an image that can be read but"
_OPEN_IN = "open it in a picture editor and export it as PNG or JPEG."


class _Kind(NamedTuple):
    """A kind of file: bytes that it has at a position, what it is, and the mend."""

    position: int
    magic: bytes
    name: str
    mend: str


_VIDEO = "take a picture out of it first, by ffmpeg for example."
_UNPACK = "unpack it first."
_EXPORT = f"{_OPEN_IN}"
_PAGE = "export the page as PNG or TIFF first."
_KINDS = (
    _Kind(0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture", _EXPORT),
    _Kind(0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _EXPORT),
    _Kind(0, b"\xff\x0a", "a JPEG XL picture", _EXPORT),
    _Kind(0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", _EXPORT),
    _Kind(0, b"II\xbc", "a JPEG XR picture", _EXPORT),
    _Kind(0, b"8BPS", "a Photoshop document", _EXPORT),
    _Kind(0, b"gimp xcf", "a GIMP document", _EXPORT),
    _Kind(0, b"AFFT", "an Affinity document", _EXPORT),
    _Kind(0, b"\x00\xffKA", "an Affinity document", _EXPORT),
    _Kind(0, b"%PDF", "a PDF document", _PAGE),
    _Kind(0, b"%!PS", "a PostScript document", _PAGE),
    _Kind(0, b"\xc5\xd0\xd3\xc6", "an EPS document", _PAGE),
    _Kind(0, b"\0\0\1\0", "an icon (ICO)", _EXPORT),
    _Kind(0, b"\0\0\2\0", "a cursor (CUR), or a Targa picture", _EXPORT),
    _Kind(0, b"icns", "an icon (ICNS)", _EXPORT),
    _Kind(0, b"v/1\1", "an OpenEXR picture", _EXPORT),
    _Kind(0, b"#?RADIANCE", "a Radiance HDR picture", _EXPORT),
    _Kind(0, b"SIMPLE  =", "a FITS picture", _EXPORT),
    _Kind(0, b"DDS ", "a DirectDraw texture (DDS)", _EXPORT),
    _Kind(0, b"qoif", "a QOI picture", _EXPORT),
    _Kind(0, b"farbfeld", "a farbfeld picture", _EXPORT),
    _Kind(0, b"BPG\xfb", "a BPG picture", _EXPORT),
    _Kind(0, b"FLIF", "a FLIF picture", _EXPORT),
    _Kind(0, b"AT&TFORM", "a DjVu document", _PAGE),
    _Kind(128, b"DICM", "a DICOM picture", _EXPORT),
    _Kind(0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", _EXPORT),
    _Kind(40, b" EMF", "a Windows metafile (EMF)", _EXPORT),
    _Kind(8, b"AVI ", "a video (AVI)", _VIDEO),
    _Kind(8, b"WAVE", "a sound (WAV)", "give a picture."),
    _Kind(0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _VIDEO),
    _Kind(0, b"FLV\1", "a video (Flash)", _VIDEO),
    _Kind(0, b"\0\0\1\xba", "a video (MPEG)", _VIDEO),
    _Kind(0, b"\0\0\1\xb3", "a video (MPEG)", _VIDEO),
    _Kind(0, b"0&\xb2u\x8ef\xcf\x11", "a video (Windows Media)", _VIDEO),
    _Kind(4, b"moov", "a video (QuickTime)", _VIDEO),
    _Kind(4, b"mdat", "a video (QuickTime)", _VIDEO),
    _Kind(4, b"wide", "a video (QuickTime)", _VIDEO),
    _Kind(0, b"\x8aMNG\r\n", "an animation (MNG)", _EXPORT),
    _Kind(0, b"ID3", "a sound (MP3)", "give a picture."),
    _Kind(30, b"mimetypeapplication/x-krita", "a Krita document", _EXPORT),
    _Kind(30, b"mimetypeimage/openraster", "an OpenRaster document", _EXPORT),
    _Kind(0, b"PK\3\4", "a ZIP archive or an Office document", _UNPACK),
    _Kind(0, b"PK\5\6", "an empty ZIP archive", "give a picture."),
    _Kind(0, b"\x1f\x8b", "a file packed with gzip", _UNPACK),
    _Kind(0, b"BZh", "a file packed with bzip2", _UNPACK),
    _Kind(0, b"\xfd7zXZ\0", "a file packed with xz", _UNPACK),
    _Kind(0, b"(\xb5/\xfd", "a file packed with zstd", _UNPACK),
    _Kind(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _Kind(0, b"Rar!\x1a\7", "a RAR archive", _UNPACK),
    _Kind(257, b"ustar", "a tar archive", _UNPACK),
    _Kind(0, b"\x7fELF", "a program", "give a picture."),
    _Kind(0, b"MZ", "a Windows program", "give a picture."),
    _Kind(0, b"SQLite format 3\0", "a database (such as Thumbs.db or a photo catalogue)", "give a picture."),
    _Kind(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document or Thumbs.db", "give a picture."),
    _Kind(0, b"version https://git-lfs", "a pointer of Git LFS, not the picture", "fetch it with `git lfs pull`."),
    _Kind(0, b"L\0\0\0\x01\x14\2\0", "a shortcut of Windows", "give the picture that it leads to."),
    _Kind(0, b"Salted__", "an encrypted file", "decrypt it first."),
    _Kind(0, b"bplist00", "a property list of macOS", "give a picture."),
    _Kind(0, b"\0\5\x16\7", "a resource fork of macOS (._NAME)", "give the file without `._`."),
    _Kind(0, b"\x93NUMPY", "a NumPy array", "save it as PNG or TIFF first."),
    _Kind(0, b"\x89HDF\r\n", "an HDF5 file", "save the picture in it as PNG or TIFF first."),
)
_BASE64 = re.compile(rb"\s*(?:data:image/[\w+.-]+;base64,)?\s*(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{64}")
_BEGINNING = "is not an image that can be read, only the beginning of {} or a damaged one: copy or download it again."
_FRAME_HEADERS, _JPEG_LS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB), 0xF7  # markers
_NETPBM = re.compile(rb"P[1-7FfXx][\s#]")
_MARKUP = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--(?:(?!-->).)*-->\s*)*<(!doctype html|html|head|body|\?xml|svg|!doctype svg)",
    re.I | re.S,
)
# Beginnings of pictures that can be read: where such a file is not understood, it is damaged or only begun.
_PICTURE_STARTS = {
    b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
    b"BM": "BMP", b"GIF8": "GIF", b"RIFF": "WebP",
}  # fmt: skip


def brands_of(head: bytes) -> list[bytes]:
    """Return the brands that a file of the ISO base media format (HEIC, AVIF, MP4...) names; none for others."""
    if head[4:8] != b"ftyp":
        return []
    length = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]


def is_heif(head: bytes) -> bool:
    """Return whether a file is a HEIC picture, or of its family with another codec than AVIF's."""
    brands = brands_of(head)
    return bool(brands) and not is_avif(head) and brands[0] in _HEIF_BRANDS


def is_avif(head: bytes) -> bool:
    """Return whether a file is an AVIF picture."""
    brands = brands_of(head)
    general = bool(brands) and brands[0] in (b"mif1", b"msf1") and not set(brands) & set(_HEIF_BRANDS[:8])
    return bool(brands) and (brands[0] in _AVIF_BRANDS or (general and bool(set(brands) & set(_AVIF_BRANDS))))


def is_tiff(head: bytes) -> bool:
    """Return whether a file begins as a TIFF or a BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def avif_bits(head: bytes) -> int:
    """Return the bits of a channel that an AVIF picture names (its `pixi` box), 8 where it names none."""
    _, box, rest = head.partition(b"pixi")
    return rest[5] if box and len(rest) > 5 and rest[5] in (8, 10, 12) else 8


def has_raw_suffix(name: str) -> bool:
    """Return whether the extension of a name is that of a raw file."""
    return PurePath(name).suffix.lower() in RAW_SUFFIXES


def starts_as_raw(head: bytes) -> bool:
    """Return whether the first bytes are those of a maker's own raw format."""
    tiff = head[:4] in (b"II*\0", b"MM\0*")
    return head.startswith(_RAW_STARTS) or (tiff and head[8:10] == _CR2) or b"crx " in brands_of(head)


def name_kind(file: BinaryIO, name: str = "") -> str | None:
    """Say what a file is that no decoder takes, in words that continue a sentence after its name.

    Args:
        file: it, seekable; its position is kept.
        name: of the file, for its extension.

    Returns:
        The sentence, or None for a file of which nothing is known.
    """
    start = file.tell()
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(start)
    if not head:
        return f"{_NOT} an empty file: copy it again from where it came."
    if not head.strip(b"\0"):
        return f"{_NOT} a row of zeros, as an interrupted copy leaves behind: copy it again from where it came."
    if starts_as_raw(head):
        return RAW
    if brands := brands_of(head):
        return _name_media(head, brands[0])
    return _name_other(head, name)


def _name_media(head: bytes, brand: bytes) -> str:
    if is_avif(head):
        return _BEGINNING.format("an AVIF") if features.check("avif") else AVIF
    if is_heif(head):
        return HEIC
    if brand in (b"jp2 ", b"jpx ", b"jpm "):
        return f"{_NOT} a JPEG 2000 picture: {_EXPORT}"
    if brand == b"M4A ":
        return f"{_NOT} a sound (M4A): give a picture."
    return f"{_NOT} a video ({'QuickTime' if brand == b'qt  ' else 'MP4'}): {_VIDEO}"


def _name_other(head: bytes, name: str) -> str | None:
    for kind in _KINDS:
        if head.startswith(kind.magic, kind.position):
            return f"{_NOT} {kind.name}: {kind.mend}"
    if _NETPBM.match(head):
        return f"{_NOT} a PNM picture: {_EXPORT}"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    if markup := _MARKUP.match(head):
        if b"svg" in markup[1].lower() or b"<svg" in head.lower():
            return f"{_NOT} an SVG drawing: export it as PNG in the size you need."
        if markup[1].lower() == b"?xml":
            return f"{_NOT} an XML document: check where it came from."
        return f"{_NOT} a web page (a download that failed, or needs a login): download the picture again."
    if head.startswith(b"RIFF") and head[8:12] != b"WEBP":
        return f"{_NOT} a RIFF file of another kind than WebP: give a picture."
    for start, format in _PICTURE_STARTS.items():
        if head.startswith(start):
            return _name_jpeg(head) if format == "JPEG" else _BEGINNING.format(f"a {format}")
    if sentence := _name_wrapped(head):
        return sentence
    if has_raw_suffix(name):
        return RAW
    if _is_text(head):
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return f"{_NOT} a JSON document, as annotation tools write: export the picture itself as PNG."
        return f"{_NOT} a text: check where it came from."
    return None


def _name_jpeg(head: bytes) -> str:
    """Say why a JPEG is not understood, by its frame header if that is near the start."""
    position = 2
    while head[position : position + 1] == b"\xff" and position + 5 <= len(head):
        marker, (length,) = head[position + 1], struct.unpack_from(">H", head, position + 2)
        if marker == _JPEG_LS:
            return f"{_NOT} a JPEG-LS picture: {_EXPORT}"
        if marker in _FRAME_HEADERS:
            if head[position + 4] != 8:
                return f"{_NOT} a JPEG of {head[position + 4]} bits a channel: save it with 8, or as PNG or TIFF."
            break
        position += 2 + length
    return _BEGINNING.format("a JPEG")


def _name_wrapped(head: bytes) -> str:
    """Name a picture that begins behind other bytes, or that is written as text; empty for others."""
    if _BASE64.match(head):
        return f"{_NOT} a picture written as text (base64): decode it first."
    found = re.search(rb"\xff\xd8\xff[\xdb\xe0-\xef]|\x89PNG\r\n\x1a\n", head)
    if found:
        kind = "PNG" if found[0].startswith(b"\x89") else "JPEG"
        return (
            f"{_NOT} a {kind} behind {found.start()} other bytes, "
            "as a faulty upload or download leaves: copy or download it again."
        )
    if head.startswith((b"\xc3\xbf\xc3\x98\xc3\xbf", b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")):
        return f"{_NOT} a picture that a program has changed as if it were text: copy or download it again."
    return ""


def _is_text(head: bytes) -> bool:
    """Return whether a file begins with plain text in UTF-8."""
    try:
        text = head.decode() if len(head) < HEAD_BYTES else head[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t\f\ufeff" for letter in text)


_PHOTOMETRICS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "ink (CMYK)", 6: "YCbCr", 8: "CIE L*a*b*",
    9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL", 32845: "LogLuv",
}  # fmt: skip
_FORMATS = {2: "signed ", 3: "float ", 5: "complex ", 6: "complex "}
_COMPRESSIONS = {
    1: "", 2: "fax", 3: "fax", 4: "fax", 5: "LZW", 6: "an old kind of JPEG", 7: "JPEG", 8: "Deflate", 32773: "PackBits",
    32946: "Deflate", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34676: "SGI Log", 34925: "LZMA",
    34887: "LERC", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip


def name_tiff(tags: exif.Tags) -> str:
    """Say which pixels a TIFF has that no decoder takes, in words that continue a sentence after its name."""
    bits = exif.numbers(tags, 258) or (1,)
    channels = exif.number(tags, 277, len(bits))
    form = _FORMATS.get(exif.number(tags, 339, 1), "")
    colour = _PHOTOMETRICS.get(exif.number(tags, 262, 1), "unknown")
    compression = _COMPRESSIONS.get(exif.number(tags, 259, 1), "an unknown method")
    packed = f", compressed with {compression}" if compression else ""
    many = f"{channels} channels" if channels > 1 else "1 channel"
    return (
        f"{_NOT} a TIFF of {many} of {max(bits)} bits, {form}{colour}{packed}: "
        "save it as RGB or grey with 8 or 16 bits."
    )
