"""Images as arrays: their types, conversion between bytes and floats, resizing.

An image is (H, W, C) with C = 1 (gray) or 3 (RGB), uint8 or floats in [0, 1]. `files.array_io` reads and writes them.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from edgeae.errors import ImageError, UsageError

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]  # in [0, 1]
Bools: TypeAlias = npt.NDArray[np.bool_]  # masks and holes, True where a pixel belongs to them
Doubles: TypeAlias = npt.NDArray[np.float64]
AnyImage: TypeAlias = npt.NDArray[np.number[Any]]
Rows: TypeAlias = npt.NDArray[Any]  # of a picture file: uint8, uint16 or float32, see `colours`


def to_float(image: AnyImage) -> Floats:
    """Convert an image to float32 in [0, 1].

    Args:
        image: uint8, or floats in [0, 1], of any shape.

    Raises:
        ImageError: another type; NaN; or floats further than half a gray level outside [0, 1], which are probably on
            the scale of 0 to 255.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    _check_float(image)
    if image.size and not (image.min() >= -0.5 / 255 and image.max() <= 1 + 0.5 / 255):
        raise ImageError(f"A float image has values from {image.min():g} to {image.max():g}: scale them to 0 to 1.")
    return np.clip(image, 0, 1).astype(np.float32)


def to_uint8(image: AnyImage) -> Pixels:
    """Convert an image of any shape to uint8: floats are clipped to [0, 1], times 255, and rounded half to even.

    uint8 is returned as it is, without a copy.

    Raises:
        ImageError: another type, or NaN.
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
    """Resize (H, W, C) to `size` = (width, height) with an antialiased Lanczos filter: uint8 (height, width, C)."""
    return _from_pil(to_pil(image).resize(_checked_size(size), Image.Resampling.LANCZOS), image)


def fit(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Crop (H, W, C) about its centre to the aspect ratio of `size` = (width, height), then resize it to that size."""
    return _from_pil(ImageOps.fit(to_pil(image), _checked_size(size), Image.Resampling.LANCZOS), image)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width < 1 or height < 1:
        raise UsageError(f"An image cannot be {width}×{height} pixels: give a width and a height of at least 1.")
    return width, height


def to_pil(image: AnyImage) -> Image.Image:
    """Convert (H, W, 1) to a PIL image of mode L, (H, W, 3) to one of mode RGB.

    Raises:
        ImageError: any other shape, or values that `to_uint8` refuses.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ImageError(f"An array of shape {image.shape} is not an image: give (height, width, 1 or 3).")
    pixels = np.ascontiguousarray(to_uint8(image))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def require_one_shape(images: Sequence[AnyImage] | AnyImage) -> list[AnyImage]:
    """Return the images, (N, H, W, C) or a list of (H, W, C), as a list.

    Raises:
        ImageError: there is no image, or two have different shapes.
    """
    shapes = {image.shape for image in images}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ImageError(
            f"Images of one shape (height, width, channels) are needed, not {sorted(shapes) or 'none at all'}."
        )
    return list(images)


def _from_pil(picture: Image.Image, original: AnyImage) -> Pixels:
    return np.array(picture).reshape(picture.height, picture.width, original.shape[2])
