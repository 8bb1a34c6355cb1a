"""The kinds of damage: one function each, and KINDS, which lists them with their strengths.

To add a kind:

1. Write its function below, among those that make holes or those that change every pixel. Its type is `Damage`.
2. Add it to KINDS at the end of this file, under the name that users write.
3. Describe it in the table of `spec.py` and in the help of `edgeae corrupt` (`cli/corrupt.py`); a test compares them
   with KINDS.
4. Test in `tests/images/damage/test_kinds.py` what it does to pixels. That a damage keeps shape, range and input, and
   is repeatable, is tested in `test_spec.py` for all in KINDS.

CONTRIBUTING.md walks through an example.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from edgeae.images.arrays import Bools, Doubles, Floats
from edgeae.images.colours import LUMA_BT601
from edgeae.images.damage.harmonic import smear_hole

# Holes have one fixed colour. A network can learn to tell it from content, and whoever has a mask at use can paint it;
# a random colour would look like an object, and the image's own mean like smooth content. Middle gray is near the
# centre of the inputs, so that a hole excites the first layer little, and 128/255 survives an 8-bit file unchanged.
FILL = np.float32(128 / 255)

# damage(image, holes, strength, rng) → (image, holes). The image is float32 (H, W, C) in [0, 1] with C = 1 or 3, the
# holes made so far are bool (H, W). A damage returns new arrays (the image float32 again) or its inputs, which it never
# changes; it keeps values in [0, 1] but for rounding, and takes all randomness from `rng`.
Damage: TypeAlias = Callable[[Floats, Bools, float, np.random.Generator], tuple[Floats, Bools]]


@dataclass(frozen=True)
class Kind:
    """One kind of damage.

    Attributes:
        damage: what does it.
        default: its strength if the user gives none.
        low, high: the least and the greatest strength.
        unit: of the strength, in the words of an error message.
        makes_holes: whether it replaces pixels by FILL and adds them to the holes.
        whole: whether its strength is a whole number.
    """

    damage: Damage
    default: float
    low: float
    high: float
    unit: str
    makes_holes: bool = False
    whole: bool = False


# ---- holes -----------------------------------------------------------------------------------------------------------
# Each function draws new holes, bool (H, W), that cover about `share` of the area.


def _fill(draw_holes: Callable[[int, int, float, np.random.Generator], Bools]) -> Damage:
    """Return the damage that fills the holes that `draw_holes` draws."""

    def damage(image: Floats, holes: Bools, share: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
        height, width, _ = image.shape
        new = draw_holes(height, width, share, rng)
        return np.where(new[..., None], FILL, image), holes | new

    return damage


def _draw_rectangles(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    holes = np.zeros((height, width), dtype=np.bool_)
    area = share * height * width
    most = 3 if share <= 0.25 else 2 if share <= 0.5 else 1  # more do not fit side by side
    count = min(int(rng.integers(1, most + 1)), round(area))
    sizes = rng.uniform(0.5, 1.5, count)
    aspects = np.exp2(rng.uniform(-1, 1, count))  # height / width from 1/2 to 2
    tries = rng.random((count, 8, 2)).tolist()
    placed: list[tuple[int, int, int, int]] = []
    for size, aspect, corners in zip((sizes / sizes.sum() * area).tolist(), aspects.tolist(), tries, strict=True):
        h = min(max(round(math.sqrt(size * aspect)), math.ceil(size / width), 1), height)
        w = min(max(round(size / h), 1), width)
        # Rectangles that overlap cover less than `share`: of eight random places, take the one with the least overlap.
        boxes = [(int(y * (height - h + 1)), int(x * (width - w + 1)), h, w) for y, x in corners]
        best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in placed)) if placed else boxes[0]
        placed.append(best)
        holes[best[0] : best[0] + h, best[1] : best[1] + w] = True
    return holes


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    """Return the common area of two boxes, each (top, left, height, width)."""
    rows = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    columns = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(rows, 0) * max(columns, 0)


def _draw_scratches(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    side = min(height, width)
    area = round(share * height * width)
    t = np.linspace(0, 1, 9)[:, None]
    covered = 0
    for _ in range(1000):  # 1 to 100 lines are usual; the limit is for images where lines hardly find free pixels
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


def _draw_missing_pixels(height: int, width: int, share: float, rng: np.random.Generator) -> Bools:
    return rng.random((height, width), dtype=np.float32) < share


def _smear(image: Floats, holes: Bools, blend: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    return (image + np.float32(blend) * (smear_hole(image, holes) - image) if holes.any() else image), holes


# ---- every pixel -----------------------------------------------------------------------------------------------------


def _add_noise(image: Floats, holes: Bools, sigma: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    noise = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + noise, 0, 1), holes


def _blur(image: Floats, holes: Bools, sigma: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    sigma_px = sigma * min(holes.shape) / 64
    radius = int(3 * sigma_px + 0.5)  # the kernel is cut at 3 σ; pixels beyond an edge repeat those on it
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


def _compress(image: Floats, holes: Bools, quality: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    levels = np.rint(image * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(file, "JPEG", quality=int(quality))
    decoded = np.asarray(Image.open(file), dtype=np.float32).reshape(image.shape)
    decoded /= 255
    return decoded, holes


def _desaturate(image: Floats, holes: Bools, blend: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    if image.shape[2] == 3:
        image = image + np.float32(blend) * ((image @ LUMA_BT601)[..., None] - image)
    return image, holes


def _shift(image: Floats, holes: Bools, share: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    down, right, turn = rng.uniform(-share, share, 3)
    motion = (down * image.shape[0], right * image.shape[1], 2 * turn)
    moved = move(image, *motion)
    if holes.any():
        # A pixel interpolated even partly from a hole belongs to it; the threshold only allows for rounding.
        holes = move(holes[..., None].astype(np.float32), *motion)[..., 0] > 1e-3
    return moved, holes


def move(image: Floats, down_px: float, right_px: float, angle_rad: float) -> Floats:
    """Rotate an image about its centre, then translate it.

    Interpolation is bilinear; what comes in from outside is the image's mirror image.

    Args:
        image: float32 (H, W, C).
        down_px, right_px: translation in pixels.
        angle_rad: rotation, clockwise.
    """
    height, width, channels = image.shape
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    # For each pixel of the result, where it comes from: undo the translation, then the rotation about the centre.
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


def _mirror(position: Doubles, size: int) -> Doubles:
    """Fold coordinates into [0, size - 1], mirrored at the outer edges of the first and last pixel."""
    folded = np.mod(position + 0.5, 2 * size)
    inside: Doubles = np.clip(np.minimum(folded, 2 * size - folded) - 0.5, 0, size - 1)
    return inside


# ---- all kinds, by the name that users write -------------------------------------------------------------------------

KINDS: dict[str, Kind] = {
    "occlude": Kind(_fill(_draw_rectangles), 0.125, 0, 0.9, "share of the area covered", makes_holes=True),
    "scratch": Kind(_fill(_draw_scratches), 0.05, 0, 0.5, "share of the area covered", makes_holes=True),
    "pixels": Kind(_fill(_draw_missing_pixels), 0.25, 0, 0.99, "share of pixels missing", makes_holes=True),
    "smear": Kind(_smear, 1, 0, 1, "how far holes are filled"),
    "noise": Kind(_add_noise, 0.1, 0, 1, "standard deviation, 1 is black to white"),
    "blur": Kind(_blur, 1.5, 0, 8, "standard deviation in pixels of an image whose short side is 64"),
    "jpeg": Kind(_compress, 15, 1, 95, "quality", whole=True),
    "gray": Kind(_desaturate, 1, 0, 1, "how far colours go to gray"),
    "shift": Kind(_shift, 0.1, 0, 0.5, "largest translation as a share of the side"),
}
