"""Image files to arrays and back, and the pictures made of them: grids, comparisons, film strips, animations.

Arrays are (H, W, C) with C = 1 (grey) or 3 (RGB), uint8 or floats in [0, 1]. Reading: `read_image`. Writing:
`write_image`, `write_animation`, always whole (see `files`). Between them: `to_float`, `to_uint8`, `resize`, `fit`.
"""

import io
import itertools
import math
import os
import struct
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from edgeae.errors import ImageError, UsageError
from edgeae.files import write_bytes_atomic

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image
Pixels: TypeAlias = npt.NDArray[np.uint8]
_T = TypeVar("_T")
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
ANIMATION_FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
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
        raise ImageError(f"{name} {_why_unreadable(error)}") from error
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
        with _no_warnings():
            image = Image.open(file, formats=READ_FORMATS)
        yield image


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep in what Pillow warns of while it reads headers. The filters are shared by all threads, hence the lock."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _orientation(image: Image.Image) -> int:
    try:
        with _no_warnings():
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a sound image with broken EXIF is shown as it is stored, as every viewer does
        return 1


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """`image` in mode L or RGB, opaque. The ImageErrors go on after the file's name."""
    if 0 in image.size:
        raise ImageError("has no pixels: give an image of at least 1×1.")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError("has more than 16 bits a pixel: save it with 8 or 16.")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    elif image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ImageError("has float pixels outside 0 to 1: scale them, or save it with 8 or 16 bits.")
        image = Image.fromarray(to_uint8(values))
    elif image.mode not in _GREY_MODES + _COLOUR_MODES:
        raise ImageError(f"has pixels of the kind {image.mode}: save it as RGB or grey.")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    elif image.mode in _COLOUR_MODES:
        image = image.convert("RGB")  # Pillow makes grey of CMYK by way of RGB only
    return image.convert(mode)


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


def _why_unreadable(error: Exception) -> str:
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
    return _array(_pil(image).resize(_checked_size(size), Image.Resampling.LANCZOS), image)


def fit(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Cut (H, W, C) about its centre to the aspect of `size` = (width, height), then `resize` it."""
    return _array(ImageOps.fit(_pil(image), _checked_size(size), Image.Resampling.LANCZOS), image)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width < 1 or height < 1:
        raise UsageError(f"An image cannot be {width}×{height} pixels: give a width and a height of at least 1.")
    return width, height


def _pil(image: AnyImage) -> Image.Image:
    """Mode L for (H, W, 1), RGB for (H, W, 3)."""
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
    write_bytes_atomic(path, encode_image(image, _format_of(path, format, WRITE_FORMATS)))


def encode_image(image: AnyImage, format: str) -> bytes:
    """The bytes of an image file of one of WRITE_FORMATS ("png", "jpg"...); see `write_image`."""
    kind = _format_of("", format, WRITE_FORMATS)
    picture = _pil(image)
    _check_sides(picture, kind)
    if kind == "GIF":
        picture = _with_palette(picture)
    return _saved(picture, kind, _SAVE_OPTIONS.get(kind, {}))


def write_animation(
    frames: Sequence[AnyImage],
    path: str | os.PathLike[str],
    *,
    fps: float = 12,
    ping_pong: bool = True,
    loop: bool = True,
) -> None:
    """Write frames (H, W, C) of one size as an animated .gif, .webp (lossy, quality 90) or .png (APNG).

    `ping_pong` appends the inner frames backwards, so that the film runs to and fro: n frames become 2n - 2. Every
    frame is kept, also one that equals the frame before. GIF counts in 1/100 s: its frames differ in length where `fps`
    asks for it, and none is shorter than 2/100 s. Raises as `write_image` does, and UsageError for an `fps` outside 0.1
    to 1000.
    """
    kind = _format_of(path, None, ANIMATION_FORMATS)
    if not 0.1 <= fps <= 1000:
        raise UsageError(f"An animation cannot run at {fps} frames a second: give a number from 0.1 to 1000.")
    pictures = [_pil(frame) for frame in _same_size(frames)]
    _check_sides(pictures[0], kind)
    encode = {"GIF": _gif, "WEBP": _webp, "PNG": _apng}[kind]
    write_bytes_atomic(path, encode(pictures, ping_pong, fps, loop))


def _format_of(path: str | os.PathLike[str], format: str | None, known: dict[str, str]) -> str:
    extension = (Path(path).suffix if format is None else format).lower().removeprefix(".")
    if extension not in known:
        names = ", ".join(f".{name}" for name in known)
        subject = (
            f"{os.fspath(path)} ends in none of the known extensions" if format is None else f"{format} is not known"
        )
        raise UsageError(f"{subject}: use one of {names}.")
    return known[extension]


def _check_sides(picture: Image.Image, kind: str) -> None:
    if max(picture.size) > _LONGEST_SIDE.get(kind, math.inf):
        raise ImageError(f"An image of {picture.width}×{picture.height} pixels is too large for {kind}: use .png.")


def _saved(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    try:
        picture.save(file, kind, **options)
    except (OSError, ValueError) as error:  # an encoder that gives up, or that this Pillow was built without
        raise ImageError(f"An image cannot be written as {kind} ({error}): use .png.") from error
    return file.getvalue()


def _to_and_fro(frames: list[_T], ping_pong: bool) -> list[_T]:
    return frames + frames[-2:0:-1] if ping_pong else frames


def _durations(count: int, fps: float, unit_ms: int) -> list[int]:
    """How long each frame is shown, in ms: multiples of the unit that never drift from the true times."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [max(2 * unit_ms, end - start) for start, end in itertools.pairwise(ends)]


def _with_palette(picture: Image.Image) -> Image.Image:
    """256 colours chosen for this picture alone, and error diffusion.

    On morphing photographs of faces this is the best of Pillow's ways: 51 dB once blurred by σ = 1 px, as the eye does,
    against 44 without diffusion, and 49 with one palette for the film.
    """
    if picture.mode == "L":
        return picture.convert("P")
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


# Pillow's own writers of animations merge a frame with the one before when the two are equal, or nearly so in WebP.
# Here GIF and WebP files are put together from single frames that Pillow encodes; for APNG an option prevents it.


def _gif(pictures: list[Image.Image], ping_pong: bool, fps: float, loop: bool) -> bytes:
    """GIF89a: a header without a palette for all, then frames that have each its own."""
    frames = _to_and_fro([_with_palette(picture) for picture in pictures], ping_pong)
    parts = [struct.pack("<6s2H3B", b"GIF89a", *pictures[0].size, 0, 0, 0)]
    if loop:
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for frame, duration in zip(frames, _durations(len(frames), fps, unit_ms=10), strict=True):
        parts += GifImagePlugin.getdata(frame, duration=duration, include_color_table=True, interlace=0)
    return b"".join([*parts, b";"])


def _webp(pictures: list[Image.Image], ping_pong: bool, fps: float, loop: bool) -> bytes:
    """WebP container, https://developers.google.com/speed/webp/docs/riff_container: each ANMF chunk a whole frame."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    def uint24(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    width, height = pictures[0].size
    # A still WebP is a 12-byte RIFF header and the chunk with the pixels.
    frames = _to_and_fro(
        [_saved(picture, "WEBP", {"quality": 90, "method": 4})[12:] for picture in pictures], ping_pong
    )
    chunks = chunk(b"VP8X", b"\x02\0\0\0" + uint24(width - 1, height - 1))  # 2: animated
    chunks += chunk(b"ANIM", struct.pack("<IH", 0, 0 if loop else 1))
    for frame, duration in zip(frames, _durations(len(frames), fps, unit_ms=1), strict=True):
        chunks += chunk(b"ANMF", uint24(0, 0, width - 1, height - 1, duration) + b"\x02" + frame)  # 2: no blending
    return chunk(b"RIFF", b"WEBP" + chunks)


def _apng(pictures: list[Image.Image], ping_pong: bool, fps: float, loop: bool) -> bytes:
    frames = _to_and_fro(pictures, ping_pong)
    if len(frames) == 1:
        return _saved(frames[0], "PNG", {})
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": _durations(len(frames), fps, unit_ms=1),
        "loop": 0 if loop else 1,
        "blend": [index % 2 for index in range(len(frames))],  # no difference for opaque frames, but never merged
    }
    return _saved(frames[0], "PNG", options)


# --- pictures made of images -----------------------------------------------------------------------------------------


def grid(
    images: Sequence[AnyImage] | AnyImage, columns: int | None = None, gap: int = 2, background: int = 255
) -> Pixels:
    """Images of one shape, (N, H, W, C) or a list, side by side in rows of `columns`, by default about a square."""
    tiles = [to_uint8(image) for image in _same_size(images)]
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width, channels = tiles[0].shape
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    canvas = np.full(shape, background, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def film_strip(frames: Sequence[AnyImage] | AnyImage, gap: int = 2) -> Pixels:
    """The frames, (H, W, C) of one size, in one row from left to right."""
    return grid(frames, columns=len(frames), gap=gap)


def _same_size(images: Sequence[AnyImage] | AnyImage) -> list[AnyImage]:
    shapes = {image.shape for image in images}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ImageError(
            f"Images of one shape (height, width, channels) are needed, not {sorted(shapes) or 'none at all'}."
        )
    return list(images)


def comparison(
    rows: Sequence[Sequence[AnyImage]],
    headers: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    *,
    min_side: int = 128,
    max_side: int = 512,
) -> Pixels:
    """Rows of images on white under column titles, with a label (line breaks allowed) left of each row: RGB (H, W, 3).

    The images, grey or RGB, may differ in size: a small one is enlarged pixel by pixel (a whole factor) until its
    longer side has at least `min_side` pixels, a large one is reduced to `max_side`, and each stands in the middle of
    its cell. Rows may have fewer images than there are columns.
    """
    if not any(len(row) for row in rows):
        raise ImageError("A comparison needs at least one image.")
    cells = [[_cell(image, min_side, max_side) for image in row] for row in rows]
    columns = max(len(row) for row in cells)
    titles = [printable(text) for text in headers or []] + [""] * columns
    names = [printable(text) for text in labels or []] + [""] * len(cells)

    gap, header_font, label_font = 10, text_font(18), text_font(15)
    name_width = max(text_size(name, label_font)[0] for name in names)
    widths = [
        max([text_size(title, header_font)[0], *(row[column].width for row in cells if column < len(row))])
        for column, title in enumerate(titles[:columns])
    ]
    heights = [
        max([text_size(name, label_font)[1], *(cell.height for cell in row)])
        for row, name in zip(cells, names, strict=False)
    ]
    left = gap + (name_width + gap if name_width else 0)
    top = gap + (28 if any(titles) else 0)
    canvas = Image.new("RGB", (left + sum(widths) + gap * columns, top + sum(heights) + gap * len(cells)), "white")
    draw = ImageDraw.Draw(canvas)

    lefts = [left + sum(widths[:column]) + gap * column for column in range(columns)]
    for x, width, title in zip(lefts, widths, titles, strict=False):
        draw.text((x + width / 2, top - gap), title, "#222222", header_font, anchor="ms")
    for row, name, height in zip(cells, names, heights, strict=False):
        draw.multiline_text((gap, top + height / 2), name, "#555555", label_font, anchor="lm")
        for x, width, cell in zip(lefts, widths, row, strict=False):
            canvas.paste(cell, (x + (width - cell.width) // 2, top + (height - cell.height) // 2))
        top += height + gap
    return np.array(canvas)


def _cell(image: AnyImage, min_side: int, max_side: int) -> Image.Image:
    picture = _pil(image).convert("RGB")
    side = max(picture.size)
    if side < min_side:
        factor = math.ceil(min_side / side)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if side > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture


def text_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font inside Pillow, the same on every machine."""
    return ImageFont.load_default(size)


def text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Width and height in pixels of text that may have line breaks."""
    if not text:
        return 0, 0
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    return math.ceil(right - left), math.ceil(bottom - top)


def printable(text: str) -> str:
    """Text in the letters that Pillow's font has: accents are dropped, dashes and signs made plain, the rest is a ?."""
    plain = text.replace("→", "->").translate(str.maketrans("–—−×", "---x"))
    letters = (char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char))
    return "".join(letters).encode("ascii", "replace").decode()
