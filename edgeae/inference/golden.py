"""Check a device or a file with a golden input: a picture with a known output.

The input is a formula and no photo, so that a C program or a web page can make it too. It consists of squares of 8×8
pixels: noise would go through a `residual`'s skip connections and hide a wrong weight near the code, squares show one
twice as often. A channel of the square in row r and column q of squares has the value

    ((i · 2654435761 + seed) mod 2³²) div 2²⁴, divided by 255, with i = (r · ⌈width / 8⌉ + q) · channels + channel.

The digest holds the output at `SAMPLES` places spread evenly over it, each as 16 bits (value · 65535), little-endian,
in base64. `tolerance` is the largest difference allowed at any of them.
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
SQUARE = 8  # pixels
# Backends add up in different orders: their float32 outputs differ by 1e-6 to 1e-4, and one step of 8 bits is 4e-3.
TOLERANCE = 1e-3
MAX_SIZE = 1024  # pixels a side, of a file that may be hostile

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verification:
    """The result of the golden input on a device.

    Attributes:
        device: the device that ran it.
        largest_error: largest difference from the digest, for outputs in [0, 1].
        tolerance: largest error that passes.
    """

    device: str
    largest_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """True if the output is within the tolerance; NaN is not."""
        return self.largest_error <= self.tolerance


def golden_input(size: int, channels: int, seed: int, width: int | None = None) -> Floats:
    """Return the picture of the formula above.

    Args:
        size: height in pixels.
        channels: 1 or 3.
        seed: from 0 to 2³² − 1.
        width: in pixels; None is `size`.

    Returns:
        (1, size, width, channels) float32 in [0, 1].
    """
    width = size if width is None else width
    down, across = -(-size // SQUARE), -(-width // SQUARE)
    i = np.arange(down * across * channels, dtype=np.uint64)
    values = ((i * np.uint64(2654435761) + np.uint64(seed)) % np.uint64(2**32)) >> np.uint64(24)
    squares = (values.astype(np.float32) / np.float32(255)).reshape(1, down, across, channels)
    return squares.repeat(SQUARE, axis=1).repeat(SQUARE, axis=2)[:, :size, :width]


def places(size: int) -> npt.NDArray[np.int64]:
    """Return the indices of the samples in a flat output of `size` numbers."""
    return np.linspace(0, size - 1, min(SAMPLES, size)).astype(np.int64)


def make_golden(session: Session, seed: int = 0) -> str:
    """Return the `golden` metadata of a model (JSON), from its own output on the session's device."""
    output = session.run_floats(golden_input(session.config.size, session.config.in_channels, seed))
    digest = base64.b64encode(sample_output(output).astype("<u2").tobytes()).decode()
    return json.dumps({"size": session.config.size, "seed": seed, "tolerance": TOLERANCE, "digest": digest})


def verify(session: Session) -> Verification:
    """Run the golden input of a session's weight file on the session's device and compare the output.

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
    actual = sample_output(session.run_floats(golden_input(size, session.config.in_channels, seed)))
    if expected.shape != actual.shape:
        raise WeightsError("the model's golden input is damaged; copy the file again.")
    error = float(np.abs(actual - expected.astype(np.float64)).max()) / 65535
    return Verification(session.device, error, tolerance)


def sample_output(output: Floats) -> npt.NDArray[np.float64]:
    """Return the samples of an output, in 65535ths."""
    flat = output.reshape(-1)
    return np.rint(flat[places(flat.size)].astype(np.float64) * 65535)
