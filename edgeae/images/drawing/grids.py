"""Arrange images in one picture: grids, film strips, comparisons under titles, and thumbnails for these."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from edgeae.errors import ImageError
from edgeae.images.arrays import AnyImage, Pixels, require_one_shape, to_pil, to_uint8
from edgeae.images.drawing.text import printable, text_font, text_size


def grid(
    images: Sequence[AnyImage] | AnyImage, columns: int | None = None, gap: int = 2, background: int = 255
) -> Pixels:
    """Arrange images of one shape, (N, H, W, C) or a list, in rows of `columns`; by default the grid is about square.

    Args:
        images: uint8 or floats in [0, 1].
        columns: images in a row.
        gap: pixels between images.
        background: gray level of the gaps, 0 to 255.

    Raises:
        ImageError: there is no image, or two have different shapes.
    """
    tiles = [to_uint8(image) for image in require_one_shape(images)]
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
    """Arrange frames of one shape in one row from left to right."""
    return grid(frames, columns=len(frames), gap=gap)


def comparison(
    rows: Sequence[Sequence[AnyImage]],
    headers: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    *,
    min_side: int = 128,
    max_side: int = 512,
) -> Pixels:
    """Arrange rows of images on white, with titles above the columns and labels left of the rows.

    Images may differ in size, and rows in length. Each image stands in the middle of its cell.

    Args:
        rows: gray or RGB images, uint8 or floats in [0, 1].
        headers: titles of the columns.
        labels: of the rows; line breaks are allowed.
        min_side: a smaller image is enlarged pixel by pixel, by a whole factor, until its longer side has as many.
        max_side: a larger image is reduced until its longer side has as many pixels.

    Returns:
        RGB, uint8 (H, W, 3).

    Raises:
        ImageError: there is no image.
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
    """Reduces a picture while its rows pass, by a whole factor, so that it is never held in full size."""

    def __init__(self, width: int, height: int, most: int = 2048) -> None:
        """Begin a picture of this size; the reduced one has at most `most` pixels on each side."""
        self._factor = -(-max(width, height) // most)
        self._left = np.empty((0, width, 3), np.uint8)
        self._done: list[Pixels] = []

    def add(self, rows: Pixels) -> None:
        """Take the next rows, uint8 (n, width, 1 or 3)."""
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
        """Return the reduced picture, (h, w, 3). Rows at the end that are too few for another are left out."""
        if not self._done:  # all rows together are too few for one
            return self._means(self._left, len(self._left))
        return np.concatenate(self._done)
