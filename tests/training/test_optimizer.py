"""AdamW against PyTorch, as one kernel and as generated code."""

import math
from typing import Any

import numpy as np
import pytest
from tinygrad import Tensor

from edgeae.training.optimizer import BETAS, CLIP, MEMORY, AdamW

SIZES = {"a.weight": (3, 3, 5, 7), "a.bias": (7,), "b.weight": (1, 1), "c.weight": (40, 33)}
DECAY = 0.02


def draw(seed: int, scale: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.standard_normal(size)).astype(np.float32) for name, size in SIZES.items()}


def run(device: str, steps: int, resume_after: int | None = None) -> dict[str, Any]:
    """Parameters after some steps; `resume_after` continues with a new optimizer that loads the old one's state."""
    parameters = {name: Tensor(value, device=device).realize() for name, value in draw(0).items()}
    optimizer = AdamW(parameters, DECAY)
    for step in range(steps):
        if step == resume_after:
            state = {name: value.numpy() for name, value in optimizer.state().items()}
            parameters = {name: Tensor(value.numpy(), device=device).realize() for name, value in parameters.items()}
            optimizer = AdamW(parameters, DECAY)
            for name, value in optimizer.state().items():
                value.replace(Tensor(state[name], device=device).contiguous().realize())
        optimizer.zero_grad()
        for name, value in draw(step + 1, scale=10.0 ** (-3 * (step % 3))).items():
            parameters[name].grad = Tensor(value, device=device)
        lr = Tensor([0.01 / (step + 1)], device=device)
        Tensor.realize(*optimizer.schedule_step(lr))
    return {name: value.numpy() for name, value in (parameters | optimizer.state()).items()}


@pytest.mark.parametrize("kernels", ["", "off"])
def test_steps_agree_with_pytorch(device: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("EDGEAE_KERNELS", kernels)
    results = run(device, steps=5)
    expected = {name: torch.tensor(value, requires_grad=True) for name, value in draw(0).items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [value for name, value in expected.items() if name.endswith("weight")], "weight_decay": DECAY},
            {"params": [expected["a.bias"]], "weight_decay": 0.0},
        ],
        betas=BETAS,
    )
    lengths: list[float] = []
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        for name, value in draw(step + 1, scale=10.0 ** (-3 * (step % 3))).items():
            expected[name].grad = torch.tensor(value)
        ages = np.arange(len(lengths))[::-1]
        limit = CLIP * float(np.average(lengths, weights=MEMORY**ages)) if lengths else math.inf
        length = float(torch.nn.utils.clip_grad_norm_(expected.values(), limit))
        assert (length > limit) == (step == 3)  # the scales are 1, 1e-3, 1e-6, 1, 1e-3
        lengths.append(min(length, limit))
        optimizer.step()
    for name, value in expected.items():
        np.testing.assert_allclose(results[name], value.detach().numpy(), rtol=0, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(results["powers"], [BETAS[0] ** 5, BETAS[1] ** 5, MEMORY**5], rtol=1e-6)


def test_the_state_determines_all_further_steps(device: str) -> None:
    """Bit for bit, and for any number of threads."""
    from tinygrad.helpers import Context

    whole = run(device, steps=4)
    for threads in (1, 3):
        with Context(CPU_COUNT=threads):
            resumed = run(device, steps=4, resume_after=2)
        for name, value in whole.items():
            assert np.array_equal(resumed[name], value), name


def test_with_a_zero_gradient_only_the_decay_acts(device: str) -> None:
    parameters = {"a.weight": Tensor([2.0, -3.0], device=device).realize()}
    optimizer = AdamW(parameters, DECAY)
    parameters["a.weight"].grad = Tensor([0.0, 0.0], device=device)
    Tensor.realize(*optimizer.schedule_step(Tensor([0.1], device=device)))
    np.testing.assert_allclose(parameters["a.weight"].numpy(), np.array([2.0, -3.0]) * (1 - 0.1 * DECAY), rtol=1e-6)
