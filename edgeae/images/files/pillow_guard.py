"""Keep Pillow safe while it decodes: allowed formats, muted warnings, checked values, error messages."""

import errno
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from edgeae.errors import ImageError

# What an image can be read from: a path, a file's bytes, an open binary file, or an image of Pillow's.
ImageSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image

# Only these decoders see a file: some of Pillow's others start programs (EPS) or have no place here.
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_WARNINGS_LOCK = threading.Lock()


def read_formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow may read here: AVIF only where it was built with it."""
    return (*READ_FORMATS, "AVIF") if features.check("avif") else READ_FORMATS


@contextmanager
def mute_warnings() -> Iterator[None]:
    """Mute what Pillow warns of while it reads headers. All threads share the warning filters, hence the lock."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_values(image: Image.Image) -> None:
    """Check the range of pixels that are wider than 8 bits.

    Raises:
        ImageError: integers outside 0 to 65535, or floats outside 0 to 1. The text continues after the file's name.
    """
    values = np.asarray(image)
    if image.mode == "F" and not (values.min() >= 0 and values.max() <= 1):
        raise ImageError("has float pixels outside 0 to 1: scale them, or save it with 8 or 16 bits.")
    if image.mode.startswith("I") and values.min() < 0:
        raise ImageError("has pixels below 0 (signed numbers): save it with 8 or 16 bits, without a sign.")
    if image.mode.startswith("I") and values.max() > 0xFFFF:
        raise ImageError("has more than 16 bits a pixel: save it with 8 or 16.")


def source_name(source: ImageSource) -> str:
    """Return what error messages call an image source: its path, if it has one.

    Raises:
        ImageError: no image can be read from an object of this type.
    """
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "The image in memory"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "The PIL image")
    if not hasattr(source, "read"):
        raise ImageError(f"An image cannot be read from a {type(source).__name__}: give a path, bytes or a PIL image.")
    return str(getattr(source, "name", "The image file"))


def why_unreadable(error: Exception) -> str:
    """Explain an exception that a decoder raised, in words that continue a sentence after the file's name."""
    match error:
        case FileNotFoundError():
            return "does not exist: check the path."
        case IsADirectoryError():
            return "is a folder: name an image file in it."
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return "cannot be opened, as too many files are open: raise the limit (ulimit -n 1024)."
        case OSError(errno=errno.ENAMETOOLONG):
            return "has a name that is too long: check the path."
        case UnidentifiedImageError():
            return (
                "is not an image that can be read, or only its beginning: use a JPEG, PNG, WebP, TIFF, BMP or GIF file."
            )
        case Image.DecompressionBombError():
            return f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels: make it smaller first."
        case OSError(errno=int()):
            return f"cannot be opened ({error.strerror}): check the path and its permissions."
        case _:
            return "is damaged or cut short: copy or save it again."
