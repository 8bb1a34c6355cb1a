"""What runs a network for a session."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig

Floats: TypeAlias = npt.NDArray[np.float32]


class Engine(Protocol):
    """What runs a network for a session: `TinygradEngine` on any device, `CompiledLibrary` on the CPU.

    An engine that takes any size and needs no pieces has neither `image_size` nor `max_mem`.
    """

    @property
    def config(self) -> ModelConfig:
        """The sizes of the network."""

    @property
    def device(self) -> str:
        """The device that it runs on."""

    @property
    def batch(self) -> int:
        """Most images in one call; `run` takes more, and splits them."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images; None where any multiples of the network's stride do."""

    @property
    def max_mem(self) -> int | None:
        """Bytes for the layers, past which a session cuts images into pieces; None where it need not."""

    @property
    def methods(self) -> frozenset[str]:
        """Names of the methods that `run` takes."""

    def run(self, method: str, *arrays: Floats) -> list[Floats]:
        """Run a method of the network. Sides of images are multiples of the stride, values are in [0, 1].

        Args:
            method: `reconstruct`, `encode`, `decode`, `features` or `posterior`, as network/models.py has them; or
                `interpolate`, for a network whose `features` the engine lacks.
            arrays: the method's inputs, N rows each: images (N, H, W, C), codes, or all that `features` returned. For
                `interpolate` two images, (1, H, W, C) each, and evenly spaced positions from 0 to 1, (steps,).

        Returns:
            the method's results, N rows each; of `interpolate` the frames.

        Raises:
            UsageError: it has no such method.
            ImageError: the images do not have the engine's size.
            DeviceError: the device failed.
        """
