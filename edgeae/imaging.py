"""Image files to arrays and back.

Arrays are (H, W, C) with C = 1 (grey) or 3 (RGB), uint8 or floats in [0, 1]. Reading: `read_image`. Writing:
`write_image`, always whole (see `files`). Between them: `to_float`, `to_uint8`, `resize`, `fit`.
"""

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from edgeae.errors import ImageError, UsageError
from edgeae.files import write_bytes_atomic

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image
Pixels: TypeAlias = npt.NDArray[np.uint8]
AnyImage: TypeAlias = npt.NDArray[np.number[Any]]

# Only these decoders see a file: some of Pillow's others start programs (EPS) or have no place here.
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
WRITE_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}

_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")
_TURNS = {  # EXIF orientation → what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112
_WARNINGS_LOCK = threading.Lock()


# --- reading ---------------------------------------------------------------------------------------------------------


def read_image(source: Source, channels: int = 3) -> Pixels:
    """Decode an image to uint8 (H, W, `channels`), 1 (grey) or 3 (RGB), upright as its EXIF says.

    `source` is a path, the file's bytes, a binary file or a PIL image. Of an animation the first frame is read. 16-bit
    grey is scaled to 8 bits, transparency is laid on white, grey is made from colour as in ITU-R BT.601.
    Raises ImageError when there is no such file, or it is not a whole JPEG, PNG, WebP, TIFF, BMP or GIF image, or has
    more pixels than Pillow's limit against decompression bombs (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million).
    """
    if channels not in (1, 3):
        raise UsageError(f"An image cannot be read with {channels} channels: choose 1 (grey) or 3 (RGB).")
    name = _name(source)
    try:
        with _opened(source) as image:
            image.load()
            upright = _eight_bit(image, "L" if channels == 1 else "RGB")
            turn = _TURNS.get(_orientation(image))
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error
    except Exception as error:  # a damaged or hostile file makes Pillow's decoders raise almost anything
        raise ImageError(f"{name} {why_unreadable(error)}") from error
    pixels = np.array(upright if turn is None else upright.transpose(turn))
    return pixels.reshape(*pixels.shape[:2], channels)


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
        return
    file: BinaryIO
    if isinstance(source, str | os.PathLike):
        file = Path(source).open("rb")  # noqa: SIM115 - closed by the `with` below
    else:  # a pipe cannot be sought in, so a file is read to its end
        file = io.BytesIO(source if isinstance(source, bytes | bytearray | memoryview) else source.read())
    with file:
        with no_warnings():
            image = Image.open(file, formats=READ_FORMATS)
        yield image


@contextmanager
def no_warnings() -> Iterator[None]:
    """Keep in what Pillow warns of while it reads headers. The filters are shared by all threads, hence the lock."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _orientation(image: Image.Image) -> int:
    try:
        with no_warnings():
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a sound image with broken EXIF is shown as it is stored, as every viewer does
        return 1


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """`image` in mode L or RGB, opaque. The ImageErrors go on after the file's name."""
    if 0 in image.size:
        raise ImageError("has no pixels: give an image of at least 1×1.")
    if image.mode.startswith("I"):
        check_values(image)
        values = np.asarray(image)
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    elif image.mode == "F":
        check_values(image)
        image = Image.fromarray(to_uint8(np.asarray(image)))
    elif image.mode not in _GREY_MODES + _COLOUR_MODES:
        raise ImageError(f"has pixels of the kind {image.mode}: save it as RGB or grey.")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    elif image.mode in _COLOUR_MODES:
        image = image.convert("RGB")  # Pillow makes grey of CMYK by way of RGB only
    return image.convert(mode)


def check_values(image: Image.Image) -> None:
    """Raises ImageError, to go on after the file's name, for 32-bit integers past 16 bits and floats outside 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F" and not (values.min() >= 0 and values.max() <= 1):
        raise ImageError("has float pixels outside 0 to 1: scale them, or save it with 8 or 16 bits.")
    if image.mode.startswith("I") and (values.min() < 0 or values.max() > 0xFFFF):
        raise ImageError("has more than 16 bits a pixel: save it with 8 or 16.")


def _name(source: Source) -> str:
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
    """How a sentence that begins with the file's name goes on after what a decoder raised."""
    match error:
        case FileNotFoundError():
            return "does not exist: check the path."
        case IsADirectoryError():
            return "is a folder: name an image file in it."
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


# --- arrays ----------------------------------------------------------------------------------------------------------


def to_float(image: AnyImage) -> npt.NDArray[np.float32]:
    """uint8, or floats in [0, 1], of any shape → float32 in [0, 1].

    Raises ImageError for another type, and for floats that are NaN or further than half a grey level outside [0, 1]:
    they are probably on the scale of 0 to 255.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    _check_float(image)
    if image.size and not (image.min() >= -0.5 / 255 and image.max() <= 1 + 0.5 / 255):
        raise ImageError(f"A float image has values from {image.min():g} to {image.max():g}: scale them to 0 to 1.")
    return np.clip(image, 0, 1).astype(np.float32)


def to_uint8(image: AnyImage) -> Pixels:
    """Floats of any shape → uint8: clipped to [0, 1], times 255, rounded half to even. uint8 is returned as it is.

    Raises ImageError for another type and for NaN.
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    _check_float(image)
    if np.isnan(image).any():
        raise ImageError("An image has NaN pixels: the model that made it has diverged or its weights are damaged.")
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _check_float(image: AnyImage) -> None:
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"An image array of type {image.dtype} cannot be used: give uint8, or floats in [0, 1].")


def resize(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Resample (H, W, C) to `size` = (width, height) with an antialiased Lanczos filter: uint8 (height, width, C)."""
    return _array(to_pil(image).resize(_checked_size(size), Image.Resampling.LANCZOS), image)


def fit(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Cut (H, W, C) about its centre to the aspect of `size` = (width, height), then `resize` it."""
    return _array(ImageOps.fit(to_pil(image), _checked_size(size), Image.Resampling.LANCZOS), image)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width < 1 or height < 1:
        raise UsageError(f"An image cannot be {width}×{height} pixels: give a width and a height of at least 1.")
    return width, height


def to_pil(image: AnyImage) -> Image.Image:
    """Mode L for (H, W, 1), RGB for (H, W, 3). Raises ImageError for any other shape."""
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ImageError(f"An array of shape {image.shape} is not an image: give (height, width, 1 or 3).")
    pixels = np.ascontiguousarray(to_uint8(image))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _array(picture: Image.Image, like: AnyImage) -> Pixels:
    return np.array(picture).reshape(picture.height, picture.width, like.shape[2])


# --- writing ---------------------------------------------------------------------------------------------------------


def write_image(image: AnyImage, path: str | os.PathLike[str], *, format: str | None = None) -> None:
    """Write (H, W, C), uint8 or floats in [0, 1], to `path`, whole or not at all; missing parent folders are made.

    `format` is one of WRITE_FORMATS and by default the path's extension. JPEG and WebP are written at quality 95.
    Raises UsageError for an unknown extension, ImageError for an array that is no image or does not fit the format,
    EdgeaeError when the file cannot be written.
    """
    write_bytes_atomic(path, encode_image(image, format_of(path, format, WRITE_FORMATS)))


def encode_image(image: AnyImage, format: str) -> bytes:
    """The bytes of an image file of one of WRITE_FORMATS ("png", "jpg"...); see `write_image`."""
    kind = format_of("", format, WRITE_FORMATS)
    picture = to_pil(image)
    check_sides(picture.size, kind)
    if kind == "GIF":
        picture = to_palette(picture)
    return encode_pil(picture, kind, SAVE_OPTIONS.get(kind, {}))


def format_of(path: str | os.PathLike[str], format: str | None, known: dict[str, str]) -> str:
    """Pillow's name of a file format, from `format` or else the path's extension; UsageError if not in `known`."""
    extension = (Path(path).suffix if format is None else format).lower().removeprefix(".")
    if extension not in known:
        names = ", ".join(f".{name}" for name in known)
        subject = (
            f"{os.fspath(path)} ends in none of the known extensions" if format is None else f"{format} is not known"
        )
        raise UsageError(f"{subject}: use one of {names}.")
    return known[extension]


def check_sides(size: tuple[int, int], kind: str) -> None:
    """Raises ImageError for a (width, height) that is larger than a file of Pillow's format `kind` can hold."""
    if max(size) > _LONGEST_SIDE.get(kind, math.inf):
        raise ImageError(f"An image of {size[0]}×{size[1]} pixels is too large for {kind}: use .png.")


def encode_pil(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """The bytes of a file of Pillow's format `kind`, saved with Pillow's `options`."""
    file = io.BytesIO()
    try:
        picture.save(file, kind, **options)
    except (OSError, ValueError) as error:  # an encoder that gives up, or that this Pillow was built without
        raise ImageError(f"An image cannot be written as {kind} ({error}): use .png.") from error
    return file.getvalue()


def to_palette(picture: Image.Image) -> Image.Image:
    """256 colours chosen for this picture alone, and error diffusion.

    On morphing photographs of faces this is the best of Pillow's ways: 51 dB once blurred by σ = 1 px, as the eye does,
    against 44 without diffusion, and 49 with one palette for the film.
    """
    if picture.mode == "L":
        return picture.convert("P")
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
