"""Image files to arrays and back.

Arrays are (H, W, C) with C = 1 (grey) or 3 (RGB), uint8 or floats in [0, 1]. Reading: `read_image`. Writing:
`write_image`, always whole (see `files`). Between them: `to_float`, `to_uint8`, `resize`, `fit`.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from edgeae.errors import ImageError, UsageError

Pixels: TypeAlias = npt.NDArray[np.uint8]
AnyImage: TypeAlias = npt.NDArray[np.number[Any]]


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
