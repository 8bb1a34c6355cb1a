"""Augmentation of training images: flips, random crops, brightness, contrast, and mixtures of two images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import UsageError

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Augment:
    """How strongly training images are varied. The defaults suit photographs; set `flip=0` for text and digits.

    Attributes:
        flip: probability of mirroring left to right, 0 to 1.
        zoom: smallest side of the random crop as a fraction of the image's side, above 0 to 1. The crop lies anywhere
            inside the image and is resized back to its full size: zoom and translation in one.
        brightness: largest offset added to every pixel, in either direction, 0 to 1.
        contrast: largest relative change of each pixel's distance from the image's mean, in either direction, 0 to 1.
        blend: probability of mixing an image with its neighbour in the batch, in a random proportion, 0 to 1 (mixup,
            Zhang et al. 2018). A mixture of aligned images, such as faces, is one more plausible image.

    Raises:
        UsageError: a strength is out of its range.
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
        """Return the settings that leave every image as it is."""
        return cls(flip=0.0, zoom=1.0, brightness=0.0, contrast=0.0)

    @property
    def changes_geometry(self) -> bool:
        """True if images are flipped or cropped."""
        return self.flip > 0 or self.zoom < 1

    @property
    def changes_light(self) -> bool:
        """True if brightness or contrast is varied."""
        return self.brightness > 0 or self.contrast > 0

    @property
    def changes_anything(self) -> bool:
        """True if any setting is on."""
        return self.changes_geometry or self.changes_light or self.blend > 0


def augment(
    images: Images,
    rngs: Sequence[np.random.Generator],
    settings: Augment,
    targets: Images | None = None,
) -> tuple[Images, Images | None]:
    """Vary each image with its own random generator.

    Args:
        images: float32 (N, H, W, C) in [0, 1].
        rngs: N generators. Each is advanced by eight draws whatever the settings, so that switching one kind of
            variation off does not change the others.
        settings: which variations, and how strong.
        targets: float32 (N, H, W, C_out) in [0, 1] or None. They get the geometry and the mixture of their images, but
            keep their brightness and contrast.

    Returns:
        Images and targets in [0, 1]: new arrays, or the arguments themselves where nothing changes.
    """
    draws = np.array([rng.random(8) for rng in rngs], dtype=np.float32).reshape(-1, 8)
    if settings.changes_geometry:
        sides = 1 - draws[:, 0] * np.float32(1 - settings.zoom)
        starts = draws[:, 1:3] * (1 - sides)[:, None]
        flips = draws[:, 3] < settings.flip
        images = resample_windows(images, starts, sides, flips)
        if targets is not None:
            targets = resample_windows(targets, starts, sides, flips)
    if settings.changes_light:
        offset = (draws[:, 4] * 2 - 1) * np.float32(settings.brightness)
        gain = 1 + (draws[:, 5] * 2 - 1) * np.float32(settings.contrast)
        # gain·(x − mean) + mean + offset, as one multiplication and one addition per pixel
        offset += images.mean(axis=(1, 2, 3)) * (1 - gain)
        images = images * gain[:, None, None, None]
        images += offset[:, None, None, None]
        np.clip(images, 0, 1, out=images)
    if settings.blend > 0:
        shares = np.where(draws[:, 6] < settings.blend, draws[:, 7], 0)[:, None, None, None]
        images = images + shares * (np.roll(images, 1, axis=0) - images)
        targets = None if targets is None else targets + shares * (np.roll(targets, 1, axis=0) - targets)
    return images, targets


def resample_windows(images: Images, starts: Images, sides: Images, flips: NDArray[np.bool_]) -> Images:
    """Cut one window out of each image and resize it to the full size, bilinearly.

    Pixel centres lie at half-integers, as in `torch.nn.functional.interpolate(align_corners=False)`.

    Args:
        images: float32 (N, H, W, C).
        starts: float32 (N, 2), top and left edge of each window as fractions of the image.
        sides: float32 (N,), side of each window as a fraction of the image.
        flips: (N,), which results are mirrored left to right.
    """
    # Bilinear interpolation is separable: whole rows are blended first, columns second. That is faster than weighting
    # four corners for each pixel.
    n, height, width, channels = images.shape

    def neighbours(length: int, start: Images) -> tuple[NDArray[np.intp], NDArray[np.intp], Images]:
        """The two source pixels of each output pixel along one axis, (N, length), and the weight of the second."""
        centres = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * sides[:, None]
        position = np.clip(centres + start[:, None] * length - np.float32(0.5), 0, length - 1)
        low = position.astype(np.intp)
        return low, np.minimum(low + 1, length - 1), position - low.astype(np.float32)

    rows = images.reshape(n * height, width * channels)
    low, high, weight = neighbours(height, starts[:, 0])
    base = (np.arange(n) * height)[:, None]
    out = rows.take((base + low).ravel(), axis=0).reshape(n, height, width * channels)
    other = rows.take((base + high).ravel(), axis=0).reshape(out.shape)
    other -= out
    other *= weight[:, :, None]
    out += other

    pixels = out.reshape(n * height * width, channels)
    low, high, weight = neighbours(width, starts[:, 1])
    for columns in (low, high, weight):
        columns[flips] = columns[flips, ::-1]
    base = (np.arange(n * height) * width).reshape(n, height, 1)
    left: Images = pixels.take((base + low[:, None]).ravel(), axis=0).reshape(images.shape)
    right = pixels.take((base + high[:, None]).ravel(), axis=0).reshape(images.shape)
    right -= left
    right *= weight[:, None, :, None]
    left += right
    np.minimum(left, 1, out=left)  # interpolating between two ones can round up past 1
    return left


def crop_squares(
    images: NDArray[np.uint8], rows: NDArray[np.int64], positions: NDArray[np.float64], side: int
) -> NDArray[np.uint8]:
    """Cut a square out of some images.

    Args:
        images: uint8 (N, H, W, C).
        rows: (B,), which images.
        positions: (B, 2), where each square lies, from 0 (top or left edge) to just below 1 (bottom or right).
        side: of the squares in pixels, at most H and W.

    Returns:
        uint8 (B, side, side, C).
    """
    possible = np.array(images.shape[1:3]) - side + 1  # numbers of rows and columns that a square can start at
    starts = (positions * possible).astype(int)
    return np.stack([images[row, y : y + side, x : x + side] for row, (y, x) in zip(rows, starts, strict=True)])
