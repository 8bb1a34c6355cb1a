"""An engine that needs neither a network nor a device: for tests of what happens around it."""

import numpy as np

from edgeae.config import ModelConfig
from edgeae.inference.engine_protocol import Floats


class Blur:
    """An engine that is cheap and deterministic: each pixel is averaged with its neighbors."""

    device, batch, image_size, methods = "CPU", 4, None, frozenset({"reconstruct"})

    def __init__(self, config: ModelConfig, max_mem: int | None = None) -> None:
        self.config, self.max_mem = config, max_mem

    def run(self, method: str, *arrays: Floats) -> list[Floats]:
        [x] = arrays
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        shifted = [padded[:, i : i + x.shape[1], j : j + x.shape[2]] for i in range(3) for j in range(3)]
        return [np.mean(shifted, axis=0, dtype=np.float32)]
