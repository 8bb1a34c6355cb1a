"""What is said of a run at its end: only where it learned nothing or lost what it had learned."""

import math

import numpy as np
import pytest
from helpers.training import settings_for

from edgeae.config import ModelConfig
from edgeae.training.evaluation import Trial
from edgeae.training.verdict import judge

CLEAN = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)  # one flat colour has about 10.8 dB
TRIAL = Trial(CLEAN, CLEAN, np.zeros((4, 16, 16), bool), "none")


@pytest.mark.parametrize(
    "arch, lr, scores, damaged, said",
    [
        pytest.param("conv", 0.1, [7.4, 7.4], 21.0, "learned nothing", id="dead from the first epoch"),
        pytest.param("vae", 10, [10.8, 10.8], math.inf, "one flat colour", id="a flat picture"),
        pytest.param("residual", 1, [15.0, 20.9], 21.0, "the damaged input itself", id="no better than the input"),
        pytest.param("conv", 1e-3, [20.0, 24.0, 12.0], 21.0, "fell from 24.0 dB to 12.0 dB", id="a fall"),
        pytest.param("conv", 0.02, [12.0, 10.8], 21.0, "fell from 12.0", id="a fall to one flat colour"),
        pytest.param("conv", 1e-3, [7.4, 7.4], 21.0, None, id="a short run at a usual rate"),
        pytest.param("conv", 0.1, [18.0, 24.0], 30.0, None, id="a high rate that works"),
        pytest.param("residual", 0.1, [15.0, 20.9], math.inf, None, id="undamaged input"),
        pytest.param("residual", 0.1, [15.0, 20.9], math.nan, None, id="pairs of other channels"),
    ],
)
def test_a_failed_run_is_told(arch: str, lr: float, scores: list[float], damaged: float, said: str | None) -> None:
    rows = [{"val_psnr": score, "damaged_psnr": damaged} for score in scores]
    sentence = judge(ModelConfig.default(arch), settings_for(arch, lr=lr), TRIAL, rows, 3)
    if said is None:
        assert sentence is None
    else:
        assert sentence is not None and said in sentence and f"lower `lr` {lr:g}" in sentence
