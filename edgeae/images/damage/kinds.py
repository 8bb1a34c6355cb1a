"""The kinds of damage that corruptions.py gives names to: holes, and what touches every pixel.

Each is a function of an image, float32 (H, W, C) in [0, 1], the holes that it has, bool (H, W), a strength and a random
generator, and returns the image damaged and its holes.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edgeae.images.arrays import Bools, Floats
from edgeae.images.colours import LUMA_BT601
from edgeae.images.damage.harmonic import smear_hole

# Holes have one fixed colour. A network can learn to tell it from content, and whoever has a mask at use can paint it;
# a random colour would look like an object, and the image's own mean like smooth content. Middle gray is near the
# centre of the inputs, so that a hole excites the first layer little, and 128/255 survives an 8-bit file unchanged.
FILL = np.float32(128 / 255)

Damage = Callable[[Floats, Bools, float, np.random.Generator], tuple[Floats, Bools]]


@dataclass(frozen=True)
class Kind:
    """How one kind of damage is done, and what its strength may be."""

    damage: Damage
    default: float
    low: float
    high: float
    unit: str
    makes_holes: bool = False
    whole: bool = False  # the strength is a whole number


# Holes. Each function draws a new set of them, (H, W) bool.


def _punch(draw: Callable[[int, int, float, np.random.Generator], Bools]) -> Damage:
    def damage(image: Floats, holes: Bools, share: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
        height, width, _ = image.shape
        new = draw(height, width, share, rng)
        return np.where(new[..., None], FILL, image), holes | new

    return damage


def _rectangles(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    holes = np.zeros((height, width), dtype=np.bool_)
    area = share * height * width
    most = 3 if share <= 0.25 else 2 if share <= 0.5 else 1  # more would not fit side by side
    count = min(int(rng.integers(1, most + 1)), round(area))
    sizes = rng.uniform(0.5, 1.5, count)
    aspects = np.exp2(rng.uniform(-1, 1, count))  # height / width from 1/2 to 2
    tries = rng.random((count, 8, 2)).tolist()
    placed: list[tuple[int, int, int, int]] = []
    for size, aspect, corners in zip((sizes / sizes.sum() * area).tolist(), aspects.tolist(), tries, strict=True):
        h = min(max(round(math.sqrt(size * aspect)), math.ceil(size / width), 1), height)
        w = min(max(round(size / h), 1), width)
        # Rectangles that overlap would cover less than asked: of a few places, the one with the least overlap.
        boxes = [(int(y * (height - h + 1)), int(x * (width - w + 1)), h, w) for y, x in corners]
        best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in placed)) if placed else boxes[0]
        placed.append(best)
        holes[best[0] : best[0] + h, best[1] : best[1] + w] = True
    return holes


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    rows = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    columns = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(rows, 0) * max(columns, 0)


def _scratches(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    side = min(height, width)
    area = round(share * height * width)
    t = np.linspace(0, 1, 9)[:, None]
    covered = 0
    for _ in range(1000):  # an end for images where lines hardly find free pixels; 1 to 100 lines are usual
        missing = area - covered
        if missing <= 0:
            break
        thickness = max(1, round(side / 64 * rng.uniform(0.75, 2.25)))
        length = min(side * rng.uniform(0.3, 1.0), missing / thickness)
        start = rng.random(2) * (width, height)
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
        ahead = length * np.array([math.cos(angle), math.sin(angle)])
        middle = ahead / 2 + bend * ahead[::-1] * (-1, 1)
        curve = start + 2 * t * (1 - t) * middle + t * t * ahead  # a quadratic Bézier curve
        pen.line(curve.ravel().tolist(), fill=255, width=thickness)
        covered = height * width - canvas.histogram()[0]
    return np.asarray(canvas) > 0


def _missing_pixels(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    return rng.random((height, width), dtype=np.float32) < share


def _smear(image: Floats, holes: Bools, blend: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    return (image + np.float32(blend) * (smear_hole(image, holes) - image) if holes.any() else image), holes


# Damage to every pixel.


def _noise(image: Floats, holes: Bools, sigma: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    noise = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + noise, 0, 1), holes


def _blur(image: Floats, holes: Bools, sigma: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    sigma_px = sigma * min(holes.shape) / 64
    radius = int(3 * sigma_px + 0.5)
    if radius:
        weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma_px) ** 2)
        weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
        for axis in (0, 1):
            size = image.shape[axis]
            padded = image.take(np.arange(-radius, size + radius).clip(0, size - 1), axis=axis)
            rows = np.moveaxis(padded, axis, 0)
            blurred = weights[0] * rows[radius : radius + size]
            for offset in range(1, radius + 1):
                before, after = radius - offset, radius + offset
                blurred += weights[offset] * (rows[before : before + size] + rows[after : after + size])
            image = np.moveaxis(blurred, 0, axis)
    return image, holes


def _jpeg(image: Floats, holes: Bools, quality: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    levels = np.rint(image * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(file, "JPEG", quality=int(quality))
    decoded = np.asarray(Image.open(file), dtype=np.float32).reshape(image.shape)
    decoded /= 255
    return decoded, holes


def _gray(image: Floats, holes: Bools, blend: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    if image.shape[2] == 3:
        image = image + np.float32(blend) * ((image @ LUMA_BT601)[..., None] - image)
    return image, holes


def _shift(image: Floats, holes: Bools, share: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    down, right, turn = rng.uniform(-share, share, 3)
    motion = (down * image.shape[0], right * image.shape[1], 2 * turn)
    moved = move(image, *motion)
    if holes.any():
        # A pixel interpolated even partly from a hole is damaged; the threshold is for rounding only.
        holes = move(holes[..., None].astype(np.float32), *motion)[..., 0] > 1e-3
    return moved, holes


def move(image: Floats, down_px: float, right_px: float, angle: float) -> Floats:
    """Turns an image, float32 (H, W, C), about its centre by `angle` radians, clockwise, then translates it.

    Bilinear interpolation; what comes in from outside is the image's mirror image.
    """
    height, width, channels = image.shape
    cos, sin = math.cos(angle), math.sin(angle)
    y = np.arange(height)[:, None] - (height - 1) / 2 - down_px
    x = np.arange(width)[None, :] - (width - 1) / 2 - right_px
    source_y = _mirror(cos * y - sin * x + (height - 1) / 2, height)
    source_x = _mirror(sin * y + cos * x + (width - 1) / 2, width)
    top, left = source_y.astype(np.intp), source_x.astype(np.intp)
    fy, fx = ((source - floor).astype(np.float32)[..., None] for source, floor in ((source_y, top), (source_x, left)))
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    pixels = image.reshape(-1, channels)
    a, b = pixels.take(top * width + left, axis=0), pixels.take(top * width + right, axis=0)
    c, d = pixels.take(bottom * width + left, axis=0), pixels.take(bottom * width + right, axis=0)
    upper, lower = a + fx * (b - a), c + fx * (d - c)
    moved: Floats = upper + fy * (lower - upper)
    return moved


def _mirror(position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Folds coordinates into [0, size - 1], mirrored at the outer edges of the first and last pixel."""
    folded = np.mod(position + 0.5, 2 * size)
    inside: npt.NDArray[np.float64] = np.clip(np.minimum(folded, 2 * size - folded) - 0.5, 0, size - 1)
    return inside


KINDS: dict[str, Kind] = {
    "occlude": Kind(_punch(_rectangles), 0.125, 0, 0.9, "share of the area covered", makes_holes=True),
    "scratch": Kind(_punch(_scratches), 0.05, 0, 0.5, "share of the area covered", makes_holes=True),
    "pixels": Kind(_punch(_missing_pixels), 0.25, 0, 0.99, "share of pixels missing", makes_holes=True),
    "smear": Kind(_smear, 1, 0, 1, "how far holes are filled"),
    "noise": Kind(_noise, 0.1, 0, 1, "standard deviation, 1 is black to white"),
    "blur": Kind(_blur, 1.5, 0, 8, "standard deviation in pixels of an image whose short side is 64"),
    "jpeg": Kind(_jpeg, 15, 1, 95, "quality", whole=True),
    "gray": Kind(_gray, 1, 0, 1, "how far colours go to gray"),
    "shift": Kind(_shift, 0.1, 0, 0.5, "largest translation as a share of the side"),
}
