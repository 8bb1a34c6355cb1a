"""One mask, the photo that it is for, and ways to save it, for the tests of masks."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from edgeae.inference.masks import MaskSource
from edgeae.inference.photo import Restored, restore
from edgeae.inference.session import Session
from helpers import photo

HEIGHT, WIDTH = 80, 112


def draw() -> np.ndarray:
    """A line, a spot and a rectangle, 0 and 255."""
    image = Image.new("L", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(image)
    pen.line((4, 6, 100, 70), fill=255, width=3)
    pen.ellipse((70, 10, 79, 19), fill=255)
    pen.rectangle((20, 50, 31, 58), fill=255)
    return np.asarray(image)


PLAIN = draw()
HOLE = PLAIN > 0
SOFT = np.rint(gaussian_filter(PLAIN.astype(float), 1.2)).astype(np.uint8)
CLEAN = photo(HEIGHT, WIDTH, seed=1)
DAMAGED = np.where(HOLE[..., None], 255, CLEAN).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3))
ZERO, FULL = np.zeros_like(PLAIN), np.full_like(PLAIN, 255)


def stack(*planes: np.ndarray) -> np.ndarray:
    return np.dstack([np.asarray(plane, np.uint8) for plane in planes])


def palette(*colors: tuple[int, int, int]) -> Image.Image:
    image = Image.frombytes("P", (WIDTH, HEIGHT), HOLE.astype(np.uint8).tobytes())
    image.putpalette([value for color in colors for value in color])
    return image


def reopened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert(image.mode)


GRAY = Image.fromarray(PLAIN)
RGB = GRAY.convert("RGB")


class Way(NamedTuple):
    """A way to save a mask.

    image: it, or its array. kind: the extension. says: words of the note. options: for saving.
    """

    image: Image.Image | np.ndarray
    kind: str = "png"
    says: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012


def save(path: Path, image: Image.Image | np.ndarray, **options: Any) -> Path:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.astype(np.uint8) if image.dtype in (np.int64, np.float64) else image)
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def repair(session: Session, source: Path, mask: MaskSource, target: Path) -> Restored:
    """Fill holes with what the network would be given."""
    return restore(source, target, session, mask=mask, network=lambda x: x)
