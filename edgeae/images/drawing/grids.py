"""Pictures made of images: animations, grids, film strips, comparisons under titles, and the text on them.

Images are arrays as in `imaging`.
"""

import itertools
import math
import os
import struct
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont

from edgeae.errors import ImageError, UsageError
from edgeae.files import write_bytes_atomic
from edgeae.images.arrays import AnyImage, Pixels, check_sides, encode_pil, format_of, to_palette, to_pil, to_uint8

ANIMATION_FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}


# --- animations ------------------------------------------------------------------------------------------------------


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
    kind = format_of(path, None, ANIMATION_FORMATS)
    if not 0.1 <= fps <= 1000:
        raise UsageError(f"An animation cannot run at {fps} frames a second: give a number from 0.1 to 1000.")
    pictures = [to_pil(frame) for frame in _same_size(frames)]
    check_sides(pictures[0].size, kind)
    order = list(range(len(pictures)))
    if ping_pong:
        order += order[-2:0:-1]
    showings = list(zip(order, _durations(len(order), fps, unit_ms=10 if kind == "GIF" else 1), strict=True))
    encode = {"GIF": _gif, "WEBP": _webp, "PNG": _apng}[kind]
    write_bytes_atomic(path, encode(pictures, showings, loop))


def _durations(count: int, fps: float, unit_ms: int) -> list[int]:
    """How long each frame is shown, in ms: multiples of the unit that never drift from the true times."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [max(2 * unit_ms, end - start) for start, end in itertools.pairwise(ends)]


# Pillow's own writers of animations merge a frame with the one before when the two are equal, or nearly so in WebP.
# Here GIF and WebP files are put together from single frames that Pillow encodes; for APNG an option prevents it.
# `showings` has the index of a picture and its duration in ms, as often as pictures are shown.


def _gif(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """GIF89a: a header without a palette for all, then frames that have each its own."""
    frames = [to_palette(picture) for picture in pictures]
    parts = [struct.pack("<6s2H3B", b"GIF89a", *frames[0].size, 0, 0, 0)]
    if loop:
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for index, duration in showings:
        parts += GifImagePlugin.getdata(frames[index], duration=duration, include_color_table=True, interlace=0)
    return b"".join([*parts, b";"])


def _webp(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """WebP container, https://developers.google.com/speed/webp/docs/riff_container: each ANMF chunk a whole frame."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    def uint24(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    width, height = pictures[0].size
    # A still WebP is a 12-byte RIFF header and the chunk with the pixels.
    frames = [encode_pil(picture, "WEBP", {"quality": 90, "method": 4})[12:] for picture in pictures]
    chunks = chunk(b"VP8X", b"\x02\0\0\0" + uint24(width - 1, height - 1))  # 2: animated
    chunks += chunk(b"ANIM", struct.pack("<IH", 0, 0 if loop else 1))
    for index, duration in showings:
        place = uint24(0, 0, width - 1, height - 1, duration)
        chunks += chunk(b"ANMF", place + b"\x02" + frames[index])  # 2: no blending
    return chunk(b"RIFF", b"WEBP" + chunks)


def _apng(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    frames = [pictures[index] for index, _ in showings]
    if len(frames) == 1:
        return encode_pil(frames[0], "PNG", {})
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": [duration for _, duration in showings],
        "loop": 0 if loop else 1,
        "blend": [index % 2 for index in range(len(frames))],  # no difference for opaque frames, but never merged
    }
    return encode_pil(frames[0], "PNG", options)


# --- many images in one ----------------------------------------------------------------------------------------------


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
    picture = to_pil(image).convert("RGB")
    side = max(picture.size)
    if side < min_side:
        factor = math.ceil(min_side / side)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if side > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture


class Thumbnail:
    """A picture made smaller while its rows pass, by a whole factor, so that no side has more than `most` pixels."""

    def __init__(self, width: int, height: int, most: int = 2048) -> None:
        self._factor = -(-max(width, height) // most)
        self._left = np.empty((0, width, 3), np.uint8)
        self._done: list[Pixels] = []

    def add(self, rows: Pixels) -> None:
        """The next rows, uint8 (n, width, 1 or 3)."""
        rows = np.concatenate([self._left, np.broadcast_to(rows, (*rows.shape[:2], 3))])
        whole = len(rows) // self._factor * self._factor
        if whole:
            self._done.append(self._means(rows[:whole], self._factor))
        self._left = rows[whole:]

    def _means(self, rows: Pixels, factor: int) -> Pixels:
        n, width = rows.shape[:2]
        columns = min(width, self._factor)
        blocks = rows[:, : width // columns * columns].reshape(n // factor, factor, -1, columns, 3)
        means: Pixels = np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
        return means

    def picture(self) -> Pixels:
        """All of it: (h, w, 3)."""
        if not self._done:  # fewer rows than make one
            return self._means(self._left, len(self._left))
        return np.concatenate(self._done)


# --- text -----------------------------------------------------------------------------------------------------------


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
