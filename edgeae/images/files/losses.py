"""Say what a format cannot hold of a photo, and refuse to write a file that would lose part of the picture itself."""

from __future__ import annotations

import numpy as np

from edgeae.errors import ImageError
from edgeae.formatting import join_names
from edgeae.images.files.reader import Photo

# What the files of a format can hold; those of a photo's own format hold what it has.
_HOLDS = {
    "PNG": {"EXIF data", "XMP data", "captions (IPTC)", "resolution", "transparency", "16 bits"},
    "JPEG": {"EXIF data", "XMP data", "captions (IPTC)", "resolution"},
    "TIFF": {"EXIF data", "XMP data", "captions (IPTC)", "resolution", "transparency", "16 bits", "pages"},
    "WEBP": {"EXIF data", "XMP data", "transparency"},
    "AVIF": {"EXIF data", "XMP data", "transparency"},
    "HEIF": {"EXIF data", "XMP data", "transparency", "16 bits"},
    "BMP": {"resolution", "transparency"},
    "GIF": {"transparency"},
}
_LONGEST_XMP = 65_502  # of a JPEG, as in `writer`


def describe_losses(photo: Photo, kind: str) -> str:
    """Return the photo's note, and what of it a file of Pillow's format `kind` cannot hold, as half a sentence."""
    metadata = photo.metadata
    carried = {
        "EXIF data": bool(metadata.exif or metadata.tags),
        "XMP data": bool(metadata.xmp) and not (kind == "JPEG" and len(metadata.xmp or b"") > _LONGEST_XMP),
        "captions (IPTC)": bool(metadata.resources),
        "transparency": photo.mode.endswith("A"),
    }
    lost = [name for name, there in carried.items() if there and name not in _HOLDS[kind]]
    if metadata.xmp and not carried["XMP data"]:
        lost.append("XMP data")
    if metadata.extension and kind != "JPEG":
        lost.append("extended XMP data")
    notes = [photo.note] if photo.note else []
    if photo.dtype != np.uint8 and "16 bits" not in _HOLDS[kind]:
        notes.append("8 bits a channel are kept")
    if photo.pages is not None and photo.pages.others and kind != "TIFF":
        notes = [f"it has {1 + len(photo.pages.others)} pages, of which only the first is kept"]
    if lost:
        notes.append(f"{kind.replace('HEIF', 'HEIC')} files hold no {join_names(lost)}")
    return "; ".join(notes)


def require_whole(photo: Photo, kind: str) -> None:
    """Refuse to write in the photo's own format what cannot be all of the picture: some of its bits, or of its pages.

    Raises:
        ImageError: the file would lose them.
    """
    if photo.losses and kind == photo.format:
        raise ImageError(f"{photo.name} cannot be kept whole: {photo.losses}; `allow_loss` writes that.")
