"""Compare the outputs of timed calls with the right ones; a time counts only if they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeae.benchmark.turns import WrongOutput

TOLERANCE = 1 / 255  # largest difference of an image in [0, 1]
# Relative differences of the first losses. From the second on they depend on the updated weights too, to which AdamW
# carries every rounding of a gradient near zero.
LOSS_TOLERANCES = (1e-5, 1e-4, 1e-3)

Floats = npt.NDArray[np.float32]
Parity = tuple[float | None, float | None]


class Check(Protocol):
    """What decides whether a case is right."""

    def __call__(self, count: int, output: Any) -> None:
        """Raise WrongOutput if the output of call number `count` is wrong."""

    def parity(self) -> Parity:
        """Return the largest difference of all checked outputs, and their PSNR; None where there is none."""


class OutputCheck:
    """Checks images or codes.

    Args:
        expected: the outputs for each of the inputs that calls go through in turn, computed on the CPU in float32 from
            the weights as the case rounds them.
        unrounded: the same from the weights of the model's file.
        are_codes: differences count relative to the largest value, since codes have no fixed range, and have no PSNR.
        rounds_activations: the output only has to show the same image, since activations are rounded too.
    """

    def __init__(
        self,
        expected: Sequence[Floats],
        unrounded: Sequence[Floats],
        *,
        are_codes: bool = False,
        rounds_activations: bool = False,
    ) -> None:
        self._expected, self._unrounded = expected, unrounded
        self._are_codes, self._rounds_activations = are_codes, rounds_activations
        self._scale = max(1.0, *(float(np.abs(one).max()) for one in expected)) if are_codes else 1.0
        self._differences: dict[int, float] = {}
        self._squared_errors: dict[int, float] = {}

    def __call__(self, count: int, output: Floats) -> None:
        """Raise WrongOutput if the output differs from the expected one."""
        number = count % len(self._expected)
        expected = self._expected[number]
        if output.shape != expected.shape:
            raise WrongOutput(f"shape {output.shape}, not {expected.shape}")
        difference = float(np.abs(output - expected).max()) / self._scale
        if self._rounds_activations:
            if not np.sqrt(np.mean((output - expected) ** 2)) < 0.1 * self._scale:  # true of NaN
                raise WrongOutput("it is another picture")
        elif not difference <= TOLERANCE:
            raise WrongOutput(f"off by {difference:.1e}; {TOLERANCE:.1e} is allowed")
        self._differences[number] = difference
        self._squared_errors[number] = float(np.mean((output - self._unrounded[number]) ** 2, dtype=np.float64))

    def parity(self) -> Parity:
        """Return the largest difference from the expected outputs, and the PSNR to the unrounded ones in dB.

        Returns:
            (difference, PSNR). The PSNR is infinite where all are equal. None where nothing was checked, or for codes.
        """
        if not self._differences:
            return None, None
        mse = float(np.mean(list(self._squared_errors.values())))
        psnr = None if self._are_codes else -10 * math.log10(mse) if mse else math.inf
        return max(self._differences.values()), psnr


class LossCheck:
    """Checks the losses of a training.

    Args:
        expected: losses of the first steps.
    """

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = expected

    def __call__(self, count: int, output: float) -> None:
        """Raise WrongOutput if one of the first losses differs from the expected one, or a later one is not finite."""
        if not math.isfinite(output):
            raise WrongOutput(f"the loss became {output}")
        if count < len(self._expected):
            expected, tolerance = self._expected[count], LOSS_TOLERANCES[count]
            if abs(output - expected) > tolerance * abs(expected):
                raise WrongOutput(f"the loss of step {count + 1} is {output:.7f}, not {expected:.7f}")

    def parity(self) -> Parity:
        """Return no figures: a loss is right or wrong."""
        return None, None
