"""Read and write HEIC pictures through the extra `heif` (pillow-heif), which is imported when the first one comes.

pillow-heif turns pictures upright as their container says, so that the EXIF orientation in them no longer counts.
Pillow itself learns nothing of the format: no plugin is registered, in whatever program this runs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.arrays import Rows
from edgeae.images.files.pillow_guard import mute_warnings
from edgeae.images.files.signatures import HEIC

FORMAT = "HEIF"
_QUALITY = 90
_MODES = {"L": "L", "L;16": "L", "RGB": "RGB", "RGBA": "RGBA", "RGB;16": "RGB", "RGBA;16": "RGBA"}


class HeifPicture:
    """An open HEIC picture.

    Attributes:
        width, height: in pixels, upright.
        dtype: of the pixels, uint8 or uint16.
        mode: "L", "RGB" or "RGBA".
        bits: a channel has in the file.
        info: what else is in the file: "exif", "xmp", "icc_profile".
        lost: names of what is left out.
        pictures: how many there are in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read a file.

        Raises:
            ImageError: the extra is not installed. The text continues after the file's name.
        """
        try:
            import pillow_heif
        except ImportError as error:
            raise ImageError(HEIC) from error
        file.seek(0)
        with mute_warnings():
            heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=False, bgr_mode=False)
            image = heif[heif.primary_index]
        self.width, self.height = image.size
        if self.width * self.height > (limit := 2 * (Image.MAX_IMAGE_PIXELS or 1 << 40)):
            raise ImageError(f"has more than {limit // 10**6} million pixels: make it smaller first.")
        self.mode, self._image = _MODES.get(image.mode, ""), image
        if not self.mode:
            raise ImageError(f"has pixels of the kind {image.mode}: save it as RGB or grey.")
        info: Mapping[str, Any] = image.info
        self.bits = int(info.get("bit_depth") or 8)
        self.dtype = np.dtype(np.uint16 if image.mode.endswith(";16") else np.uint8)
        self.info = {"exif": info.get("exif"), "xmp": info.get("xmp"), "icc_profile": info.get("icc_profile")}
        self.pictures = len(heif)
        self.lost = [
            name
            for key, name in (("thumbnails", "thumbnail"), ("depth_images", "depth map"), ("aux", "auxiliary pictures"))
            if info.get(key)
        ]

    def decode(self) -> Rows:
        """Return the pixels."""
        rows: Rows = np.asarray(self._image)
        return rows.reshape(self.height, self.width, len(self.mode))


def encode_heif(rows: Rows, mode: str, options: Mapping[str, Any]) -> bytes:
    """Return a HEIC file.

    Args:
        rows: (H, W, len(mode)), uint8, or uint16, which is written with 10 bits a channel.
        mode: "L", "RGB" or "RGBA".
        options: "quality", and perhaps "exif", "xmp", "icc_profile".

    Raises:
        ImageError: the extra is not installed, or the encoder fails.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError("A HEIC picture needs an extra to be written: pip install 'edgeae[heif]'.") from error
    file = io.BytesIO()
    height, width = rows.shape[:2]
    name = mode + (";16" if rows.dtype == np.uint16 else "")
    kept = {key: value for key, value in options.items() if key in ("quality", "exif", "xmp", "icc_profile") and value}
    try:
        pillow_heif.encode(name, (width, height), np.ascontiguousarray(rows).tobytes(), file, **kept)
    except Exception as error:  # its library raises what it likes
        raise ImageError(f"An image cannot be written as HEIC ({error}): use .jpg or .png.") from error
    return file.getvalue()
