"""Vary training images: flips, crops, brightness, contrast, mixtures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import UsageError

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Augment:
    """How far training images are varied. The defaults suit photographs; set `flip=0` for text and digits.

    flip: probability of mirroring left to right, 0 to 1.
    zoom: smallest side of the random crop as a fraction of the image, above 0 to 1; the crop lies anywhere inside the
        image and is resized back to its full size, which is zoom and translation in one.
    brightness: largest offset added to every pixel, either way, 0 to 1.
    contrast: largest relative change of the distance from the image's mean, either way, 0 to 1.
    blend: probability of mixing an image with the next of its batch, from none of it to all (Zhang et al., mixup,
        2018), 0 to 1. Of aligned images, such as faces, a mixture is one more: a few hundred become many.

    Raises UsageError when a strength is out of its range.
    """

    flip: float = 0.5
    zoom: float = 0.85
    brightness: float = 0.1
    contrast: float = 0.1
    blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "zoom", "brightness", "contrast", "blend"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "zoom" and value == 0):
                least = "above 0" if name == "zoom" else "0"
                raise UsageError(f"augmentation {name}={value!r} is out of range: give a number from {least} to 1.")

    @classmethod
    def off(cls) -> "Augment":
        """The settings that leave every image as it is."""
        return cls(flip=0.0, zoom=1.0, brightness=0.0, contrast=0.0)

    @property
    def moves(self) -> bool:
        """Whether the geometry changes."""
        return self.flip > 0 or self.zoom < 1

    @property
    def changes(self) -> bool:
        """Whether anything does."""
        return self.moves or self.lights or self.blend > 0

    @property
    def lights(self) -> bool:
        """Whether brightness or contrast changes."""
        return self.brightness > 0 or self.contrast > 0


def _sample(images: Images, starts: Images, sides: Images, flips: NDArray[np.bool_]) -> Images:
    """Bilinear samples of one window an image, resized to the full size.

    starts: (N, 2) top and left edge of the window as fractions of the image; sides: (N,) its side, likewise.
    Pixel centres lie at half-integers, as in `torch.nn.functional.interpolate(align_corners=False)`. The transform is
    separable, so whole rows are blended first and columns second, which is faster than four corners a pixel.
    """
    n, height, width, channels = images.shape

    def taps(length: int, start: Images) -> tuple[NDArray[np.intp], NDArray[np.intp], Images]:
        centres = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * sides[:, None]
        place = np.clip(centres + start[:, None] * length - np.float32(0.5), 0, length - 1)
        low = place.astype(np.intp)
        return low, np.minimum(low + 1, length - 1), place - low.astype(np.float32)

    rows = images.reshape(n * height, width * channels)
    low, high, weight = taps(height, starts[:, 0])
    base = (np.arange(n) * height)[:, None]
    out = rows.take((base + low).ravel(), axis=0).reshape(n, height, width * channels)
    other = rows.take((base + high).ravel(), axis=0).reshape(out.shape)
    other -= out
    other *= weight[:, :, None]
    out += other

    pixels = out.reshape(n * height * width, channels)
    low, high, weight = taps(width, starts[:, 1])
    for columns in (low, high, weight):
        columns[flips] = columns[flips, ::-1]
    base = (np.arange(n * height) * width).reshape(n, height, 1)
    left: Images = pixels.take((base + low[:, None]).ravel(), axis=0).reshape(images.shape)
    right = pixels.take((base + high[:, None]).ravel(), axis=0).reshape(images.shape)
    right -= left
    right *= weight[:, None, :, None]
    left += right
    np.minimum(left, 1, out=left)  # a blend of two ones can round up past 1
    return left


def augment(
    images: Images,
    rngs: Sequence[np.random.Generator],
    settings: Augment,
    targets: Images | None = None,
) -> tuple[Images, Images | None]:
    """Vary each image with its own generator: flip, crop and resize back, then brightness and contrast.

    images: float32 (N, H, W, C) in [0, 1]; rngs: N generators, each advanced by eight draws whatever the settings.
    targets: float32 (N, H, W, C_out) or None; they get the same geometry, and keep their brightness and contrast.
    Returns new arrays (or the given ones where nothing changes), values in [0, 1].
    """
    draws = np.array([rng.random(8) for rng in rngs], dtype=np.float32).reshape(-1, 8)
    if settings.moves:
        sides = 1 - draws[:, 0] * np.float32(1 - settings.zoom)
        starts = draws[:, 1:3] * (1 - sides)[:, None]
        flips = draws[:, 3] < settings.flip
        images = _sample(images, starts, sides, flips)
        if targets is not None:
            targets = _sample(targets, starts, sides, flips)
    if settings.lights:
        offset = (draws[:, 4] * 2 - 1) * np.float32(settings.brightness)
        gain = 1 + (draws[:, 5] * 2 - 1) * np.float32(settings.contrast)
        # gain·(x − mean) + mean + offset, as one multiplication and one addition a pixel
        offset += images.mean(axis=(1, 2, 3)) * (1 - gain)
        images = images * gain[:, None, None, None]
        images += offset[:, None, None, None]
        np.clip(images, 0, 1, out=images)
    if settings.blend > 0:
        shares = np.where(draws[:, 6] < settings.blend, draws[:, 7], 0)[:, None, None, None]
        images = images + shares * (np.roll(images, 1, axis=0) - images)
        targets = None if targets is None else targets + shares * (np.roll(targets, 1, axis=0) - targets)
    return images, targets


def _cut(
    images: NDArray[np.uint8], index: NDArray[np.int64], corners: Sequence[NDArray[np.float64]], crop: int | None
) -> NDArray[np.uint8]:
    """The images of these rows, or from each a square of `crop` pixels; `corners`: where, as shares of the room."""
    if crop is None:
        return images[index]
    room = np.array(images.shape[1:3]) - crop + 1
    starts = (np.stack(corners) * room).astype(int)
    return np.stack([images[row, y : y + crop, x : x + crop] for row, (y, x) in zip(index, starts, strict=True)])


def _as_float(images: NDArray[np.uint8]) -> Images:
    scaled: Images = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    return scaled
