"""Remove from XMP data what a restored picture no longer has: thumbnails, and claims of pictures beside it.

XMP is XML; only the ranges of bytes that go are cut out, so that all else stays as its program wrote it. Extended XMP
(XMP specification 3, section 1.1.3.1) is a second document in a JPEG's further segments.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from edgeae.images.files.embedded import has_picture

EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"  # start of such a segment
_EXTENSION_HEAD = len(EXTENSION) + 40  # and the 32 digits of its document, the length of that, the position in it
_PIECE_BYTES = 65_000
_MAX_BYTES, _DEEPEST = 1 << 24, 100  # of a document, and of elements inside one another
_MOST_TAGS, _MOST_ATTRIBUTES = 200_000, 100_000

_NOTE = "http://ns.adobe.com/xmp/note/"  # which names an extended document
# What is left out, by namespace: whole, or (name of a property) one of it. The words are for the note.
_VENDOR = re.compile(r"https?://ns\.\w+\.(?:com|net)/photos/(?!1\.0/panorama)")  # Google's and those who follow it
_NAMESPACES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "gain map",
    "http://ns.apple.com/pixeldatainfo/1.0/": "",
    "http://ns.apple.com/depthData/1.0/": "depth map",
    "http://ns.apple.com/depthBlurEffect/1.0/": "depth map",
    "http://ns.apple.com/portraitEffectsMatte/1.0/": "depth map",
    "http://ns.apple.com/semanticSegmentationMatte/1.0/": "depth map",
    "http://ns.adobe.com/xap/1.0/g/img/": "XMP thumbnail",
    _NOTE: "",
    "http://ns.google.com/photos/1.0/depthmap/": "depth map",
}
_PROPERTIES = {
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"): "XMP thumbnail",
    ("http://ns.adobe.com/xap/1.0/", "PageInfo"): "XMP thumbnail",
    ("http://purl.org/dc/terms/", "provenance"): "content credentials",
}
# Prefixes that count where a document does not declare them.
_PREFIXES = {
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "HDRGainMap": "http://ns.apple.com/HDRGainMap/1.0/",
    "apdi": "http://ns.apple.com/pixeldatainfo/1.0/",
    "depthData": "http://ns.apple.com/depthData/1.0/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Camera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "GContainer": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GContainerItem": "http://ns.google.com/photos/1.0/container/item/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "GAudio": "http://ns.google.com/photos/1.0/audio/",
    "OpCamera": "http://ns.oplus.com/photos/1.0/camera/",
    "MiCamera": "http://ns.xiaomi.com/photos/1.0/camera/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xap": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "xmpNote": _NOTE,
    "dcterms": "http://purl.org/dc/terms/",
}
_MOTION = re.compile(r"Motion|MicroVideo|LivePhoto|OLive")
# In documents that are no sound XML, these words stand for what would have to go.
_SUSPECT = re.compile(
    rb"Thumbnails|xmpGImg|hdrgm|HDRGainMap|GContainer|Container:|GCamera|GDepth|GImage|MotionPhoto|MicroVideo"
    rb"|HasExtendedXMP|MiCamera|OpCamera"
)


def clean_xmp(xmp: bytes, extended: bool = False) -> tuple[bytes, list[str]]:
    """Return XMP data without pictures and without claims of what is gone, and the names of what is left out.

    Args:
        xmp: the document.
        extended: whether its extended document stays with it.
    """
    text = _to_utf8(xmp)
    document = _Document(text, extended)
    try:
        document.parse()
    except (expat.ExpatError, UnicodeDecodeError, ValueError):
        return (b"", ["broken XMP data"]) if _SUSPECT.search(text) or has_picture(text) else (xmp, [])
    kept = _cut(text, document.cuts) if document.cuts else xmp
    # What is in comments, instructions for programs, or spread over several elements.
    if has_picture(_to_utf8(kept)) or has_picture(_TAG.sub(b" ", text := _cut(text, document.cuts))):
        return b"", [*document.lost, "XMP data with a picture"]
    return kept, document.lost


def _to_utf8(xmp: bytes) -> bytes:
    """Return XMP data in UTF-8, as all files but a few have it; a BOM tells of the others."""
    for start, codec in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0?\0", "utf-16-le")):
        if xmp.startswith(start):
            return xmp.decode(codec, "replace").encode()
    return xmp


def _cut(text: bytes, cuts: Sequence[tuple[int, int]]) -> bytes:
    parts, position = [], 0
    for start, end in sorted(cuts):
        parts.append(text[position : max(start, position)])
        position = max(position, end)
    return b"".join([*parts, text[position:]])


@dataclass
class _Document:
    """Finds the ranges of a document that have to go.

    Attributes:
        text: the document in UTF-8.
        extended: whether its extended document stays.
        cuts: (start, end) of each range, in bytes.
        lost: names of what is left out, each once.
    """

    text: bytes
    extended: bool
    cuts: list[tuple[int, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def parse(self) -> None:
        """Read the document.

        Raises:
            expat.ExpatError: it is no sound XML.
            ValueError: it is too long or too deep, has too many elements, or declares entities.
        """
        too_many = self.text.count(b"<") > _MOST_TAGS or self.text.count(b"=") > _MOST_ATTRIBUTES
        if len(self.text) > _MAX_BYTES or too_many:
            raise ValueError("too long")
        self._scopes: list[dict[str, str]] = [_PREFIXES]  # prefixes that each open element declares
        self._open: list[tuple[int, str | None]] = []  # position of each open element, and why it goes
        self._texts: list[list[bytes]] = []
        body = self.text.lstrip(b"\xef\xbb\xbf \t\r\n\0").rstrip(b"\0")
        self._shift = self.text.index(body) if body else 0
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(body, True)

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _position(self) -> int:
        return self._parser.CurrentByteIndex + self._shift

    def _cut(self, start: int, end: int, why: str) -> None:
        self.cuts.append((start, end))
        if why and why not in self.lost:
            self.lost.append(why)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        position = self._position()
        if len(self._open) == _DEEPEST:
            raise ValueError("too deep")
        declared = {key.removeprefix("xmlns:"): value for key, value in attributes.items() if key.startswith("xmlns:")}
        self._scopes.append(declared)
        why = self._why(name, "self#")
        inside = any(reason is not None for _, reason in self._open)
        self._open.append((position, why))
        self._texts.append([])
        if why is None and not inside:
            self._attributes(position, attributes)

    def _end(self, name: str) -> None:
        start, why = self._open.pop()
        self._scopes.pop()
        text = b"".join(self._texts.pop())
        if not why and has_picture(text):
            why = "picture in XMP data"
        if why is not None and not any(reason is not None for _, reason in self._open):
            position = self._position()
            tag = _TAG.match(self.text, position)  # of an empty element, <a/>, its start again
            self._cut(start, tag.end() if tag else position, why)

    def _characters(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text.encode("utf-8", "replace"))

    def _attributes(self, position: int, attributes: dict[str, str]) -> None:
        """Cut out attributes of an element that stays."""
        tag = _TAG.match(self.text, position)
        ranges = {match[1]: match.span() for match in _ATTRIBUTE.finditer(tag[0])} if tag else {}
        for name, value in attributes.items():
            why = self._why(name, value)
            if not why and len(value) > 100 and has_picture(value.encode("utf-8", "replace")):
                why = "picture in XMP data"
            if why is not None and name.encode() in ranges:
                start, end = ranges[name.encode()]
                self._cut(position + start, position + end, why)

    def _why(self, name: str, value: str) -> str | None:
        """Return why an element or an attribute goes, as words for the note (empty for none), or None if it stays."""
        prefix, _, local = name.rpartition(":")
        if prefix in ("", "xml", "rdf"):
            return None
        declares = prefix == "xmlns"  # a namespace of which nothing stays
        uri = value if declares else next((scope[prefix] for scope in reversed(self._scopes) if prefix in scope), "")
        if self.extended and uri == _NOTE:
            return None
        if (uri, local) in _PROPERTIES:
            return _PROPERTIES[uri, local] if local != "provenance" or value.startswith("self#") else None
        if uri in _NAMESPACES:
            return "" if declares else _NAMESPACES[uri]
        if _VENDOR.match(uri):
            return "motion video" if _MOTION.search(local) and value == "1" else ""
        return None


_ATTRIBUTE = re.compile(rb"(?<!\s)\s+([^\s=/>\"']+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")


# ---- extended XMP ----------------------------------------------------------------------------------------------------


def join_extension(segments: Sequence[bytes]) -> bytes:
    """Return the document in the segments of extended XMP; empty if they are not whole, or too long to look into."""
    pieces = {}
    for segment in segments:
        digits = segment[len(EXTENSION) : len(EXTENSION) + 32]
        length, position = struct.unpack(">II", segment[_EXTENSION_HEAD - 8 : _EXTENSION_HEAD].ljust(8, b"\0"))
        pieces[digits, length, position] = segment[_EXTENSION_HEAD:]
    end, parts = 0, []
    for (_, _, position), piece in sorted(pieces.items(), key=lambda item: item[0][2]):
        if position != end:
            return b""
        parts.append(piece)
        end += len(piece)
    return b"".join(parts) if end <= _MAX_BYTES else b""


def split_extension(document: bytes) -> tuple[bytes, list[bytes]]:
    """Return the digits by which the main document names an extended one, and the data of its segments."""
    digits = hashlib.md5(document, usedforsecurity=False).hexdigest().upper().encode()
    head = EXTENSION + digits + struct.pack(">I", len(document))
    starts = range(0, len(document), _PIECE_BYTES)
    return digits, [head + struct.pack(">I", start) + document[start : start + _PIECE_BYTES] for start in starts]
