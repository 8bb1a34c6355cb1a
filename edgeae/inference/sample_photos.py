"""Provide the pictures that `edgeae run` shows without an input: photographs if installed, else drawn faces.

The photographs are those of `skimage.data` that are dedicated to the public domain or under CC0 (`pip install
edgeae[samples]`): nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.images.arrays import fit

# Name in skimage.data, and the square (top, left, side) of it that is shown.
_PHOTOS = {
    "astronaut": (8, 116, 208),
    "chelsea": (0, 50, 300),
    "coffee": (20, 130, 360),
    "rocket": (60, 150, 340),
    "camera": (20, 100, 380),
}


@dataclass(frozen=True)
class Sample:
    """A named picture, uint8 (size, size, channels)."""

    name: str
    image: npt.NDArray[np.uint8]


def samples(size: int, channels: int = 3) -> list[Sample]:
    """Return the sample pictures.

    Args:
        size: side of the square pictures in pixels.
        channels: 1 (gray) or 3 (RGB).
    """
    try:
        import skimage.data
    except ImportError:
        from edgeae.data.generated_faces import MAX_SIZE, generate

        faces, _ = generate(5, min(max(size, 64), MAX_SIZE), seed=2)
        return [_sample(f"face-{i}", face, size, channels) for i, face in enumerate(faces)]
    photos = []
    for name, (top, left, side) in _PHOTOS.items():
        photo = getattr(skimage.data, name)()
        photo = photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, axis=-1)
        photos.append(_sample(name, photo[top : top + side, left : left + side], size, channels))
    return photos


def _sample(name: str, image: npt.NDArray[np.uint8], size: int, channels: int) -> Sample:
    image = fit(image, (size, size))
    if channels == 1:
        from PIL import Image

        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    return Sample(name, image)
