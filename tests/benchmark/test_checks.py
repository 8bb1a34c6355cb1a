"""Outputs and losses that are wrong are seen."""

import numpy as np
import pytest

from edgeae.benchmark.checks import LossCheck, OutputCheck
from edgeae.benchmark.turns import WrongOutput


@pytest.mark.parametrize("output", [[1.0, 0.4], [np.nan, 0.5], [1.0]])
def test_wrong_outputs(output: list[float]) -> None:
    right = np.array([1.0, 0.5], np.float32)
    check = OutputCheck([right], [right])
    check(0, right + np.float32(1e-5))
    assert check.parity()[0] == pytest.approx(1e-5, rel=0.02)
    with pytest.raises(WrongOutput):
        check(1, np.array(output, np.float32))


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_rounded_activations_give_the_same_picture(value: float) -> None:
    right = np.full((1, 2, 2, 3), 0.5, np.float32)
    check = OutputCheck([right], [right], rounds_activations=True)
    check(0, right + np.float32(0.05))
    with pytest.raises(WrongOutput, match="another picture"):
        check(1, np.full_like(right, value))


@pytest.mark.parametrize(("step", "loss"), [(0, 0.50001), (1, 0.4001), (5, np.inf)])
def test_wrong_losses(step: int, loss: float) -> None:
    check = LossCheck([0.5, 0.4, 0.3])
    check(0, 0.500001)
    check(5, 0.9)
    with pytest.raises(WrongOutput):
        check(step, loss)
