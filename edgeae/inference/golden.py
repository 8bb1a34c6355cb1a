"""The golden input: a picture any program can make, and what a model must give back for it.

The input is no photo but a formula, so that a C program or a page on a microcontroller can check itself too. It is made
of squares of 8×8 pixels: noise would pass a `residual` by its skip connections and hide a wrong weight near the code,
squares show one twice as often. A channel of the square in (square) row r and column q has the value

    ((i · 2654435761 + seed) mod 2³²) div 2²⁴, divided by 255, with i = (r · ⌈width / 8⌉ + q) · channels + channel.

The digest is the output at `SAMPLES` places spread evenly over it, each as 16 bits (value · 65535), little-endian, in
base64. `tolerance` is the largest difference allowed at any of them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.errors import WeightsError
from edgeae.inference.session import Session

SAMPLES = 512
SQUARE = 8
# Backends add up in different orders: their float32 outputs differ by 1e-6 to 1e-4, and one step of 8 bits is 4e-3.
TOLERANCE = 1e-3
MAX_SIZE = 1024

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verification:
    """The golden input's result on a device.

    Attributes:
        device: where it ran.
        largest_error: against the digest, in [0, 1] units.
        tolerance: the largest error that passes.
    """

    device: str
    largest_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the output is within its tolerance; NaN is not."""
        return self.largest_error <= self.tolerance


def golden_input(size: int, channels: int, seed: int, width: int | None = None) -> Floats:
    """The picture of the formula above: (1, size, width or size, channels) float32 in [0, 1]."""
    width = size if width is None else width
    down, across = -(-size // SQUARE), -(-width // SQUARE)
    i = np.arange(down * across * channels, dtype=np.uint64)
    values = ((i * np.uint64(2654435761) + np.uint64(seed)) % np.uint64(2**32)) >> np.uint64(24)
    squares = (values.astype(np.float32) / np.float32(255)).reshape(1, down, across, channels)
    return squares.repeat(SQUARE, axis=1).repeat(SQUARE, axis=2)[:, :size, :width]


def places(size: int) -> npt.NDArray[np.int64]:
    """Where an output of so many numbers is looked at."""
    return np.linspace(0, size - 1, min(SAMPLES, size)).astype(np.int64)


def make_golden(session: Session, seed: int = 0) -> str:
    """The `golden` metadata of a model, from its own output on the session's device."""
    output = session.run_floats(golden_input(session.config.size, session.config.in_channels, seed))
    digest = base64.b64encode(sampled(output).astype("<u2").tobytes()).decode()
    return json.dumps({"size": session.config.size, "seed": seed, "tolerance": TOLERANCE, "digest": digest})


def verify(session: Session) -> Verification:
    """Run the golden input of a session's weight file on the session's device.

    Raises:
        WeightsError: the file has no golden input, or it is damaged.
    """
    try:
        golden = json.loads(session.metadata["golden"])
        size, seed, tolerance = int(golden["size"]), int(golden["seed"]), float(golden["tolerance"])
        expected = np.frombuffer(base64.b64decode(golden["digest"], validate=True), "<u2")
        config = session.config
        fits = size % config.stride == 0 if config.takes_any_size else size == config.size
        if not (0 < size <= MAX_SIZE and fits and 0 <= seed < 2**32 and 0 <= tolerance < 1):
            raise ValueError
    except KeyError as e:
        raise WeightsError(f"the model has no golden input ({e} is missing); export it again.") from None
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise WeightsError("the model's golden input is damaged; copy the file again.") from None
    actual = sampled(session.run_floats(golden_input(size, session.config.in_channels, seed)))
    if expected.shape != actual.shape:
        raise WeightsError("the model's golden input is damaged; copy the file again.")
    error = float(np.abs(actual - expected.astype(np.float64)).max()) / 65535
    return Verification(session.device, error, tolerance)


def sampled(output: Floats) -> npt.NDArray[np.float64]:
    """An output at its `places`, in 65535ths."""
    flat = output.reshape(-1)
    return np.rint(flat[places(flat.size)].astype(np.float64) * 65535)
