"""The optimizer step, its schedule, and what ends an epoch."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.training import SETTINGS, make_trainer, small_config

from edgeae.config import ModelConfig
from edgeae.data.augment import Augment
from edgeae.data.batches import batches
from edgeae.data.datasets import open_dataset
from edgeae.errors import TrainingError
from edgeae.images.damage.spec import parse
from edgeae.training.trainer import Trainer

Trainers = Callable[..., Trainer]


@pytest.fixture
def trainer(device: str, tiny_config: Callable[..., ModelConfig]) -> Trainers:
    """`trainer(arch, **settings)`."""
    return lambda arch, **changes: make_trainer(small_config(tiny_config, arch), device, **changes)


def test_the_schedule_is_a_warm_up_and_a_cosine(trainer: Trainers) -> None:
    run = trainer("vae")
    run.settings = replace(run.settings, epochs=50, lr=2e-3, warmup=0.1, beta=0.5, beta_warmup=0.2)
    total = 2 * 50
    for step in (0, 4, 9, 10, 11, 55, 99):
        progress = max(0, step - 10) / (total - 10)
        expected = 2e-3 * min(1, (step + 1) / 10) * (0.505 + 0.495 * math.cos(math.pi * progress))
        assert run.schedule(step) == pytest.approx((expected, 0.5 * min(1, (step + 1) / 20)), rel=1e-12)
    assert run.schedule(0)[0] == pytest.approx(2e-4)  # the first step moves already
    assert run.schedule(9)[0] == run.schedule(10)[0] == 2e-3
    assert run.schedule(99)[0] == pytest.approx(2e-5, rel=0.05)
    for warmup in (0.0, 1.0):
        run.settings = replace(run.settings, warmup=warmup)
        assert all(0 < run.schedule(step)[0] <= 2e-3 for step in range(total))


def test_one_step_is_adamw_with_decay_on_weights_alone(trainer: Trainers) -> None:
    """The first step of AdamW moves every value by lr·(g/(|g| + ε) + decay·value): ±lr and the decay, if g ≫ ε."""
    run = trainer("conv")
    before = run.weights()
    losses: list[float] = []

    def first(step: int, loss: float) -> None:
        losses.append(loss)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run.run_epoch(0, first)
    lr, decay = run.schedule(0)[0], run.settings.weight_decay
    for name, after in run.weights().items():
        sign = (before[name] - after) / lr - (decay * before[name] if name.endswith("weight") else 0)
        assert np.abs(sign).max() <= 1 + 1e-4, name
        exact = 1e-4 if name == "to_image.weight" else 1e-2  # gradients of deeper layers are nearer to ε
        assert np.median(np.abs(sign)) == pytest.approx(1, abs=exact), name
    assert np.abs(before["to_image.weight"]).mean() * decay > 1e-3  # so the decay is seen
    # The reported loss is that of the weights before the step.
    batch = next(iter(batches(run.dataset.train, 8, epoch=0, seed=0, corrupt=parse("occlude"), augment=Augment())))
    fresh = trainer("conv")
    outputs = np.concatenate([fresh.session.run_floats(x[None]) for x in batch.inputs])
    assert losses[0] == pytest.approx(float(np.square(outputs - batch.targets).mean()), rel=1e-5)


def test_a_loss_or_output_of_nan_ends_the_run(trainer: Trainers, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer("vae")
    monkeypatch.setattr(run, "train_batch", lambda *arguments: {"loss": math.nan, "recon": 0.1, "kl": math.nan})
    with pytest.raises(TrainingError, match="loss became nan in epoch 3; lower `lr`"):
        run.run_epoch(2, lambda step, loss: None)
    monkeypatch.setattr(run, "train_batch", lambda *arguments: {"loss": 1.0, "recon": 1.0, "kl": 0.0})
    monkeypatch.setattr(run.session, "run_floats", lambda x: np.full_like(x, np.nan))
    with pytest.raises(TrainingError, match="gives nan after epoch 3; lower `lr`"):
        run.run_epoch(2, lambda step, loss: None)


def test_a_batch_that_the_devices_cannot_share_is_refused(tiny_config: Callable[..., ModelConfig]) -> None:
    dataset = open_dataset("faces", size=16, limit=14)
    with pytest.raises(TrainingError, match="batch of 8 cannot be shared by 3 devices"):
        Trainer(small_config(tiny_config, "conv"), SETTINGS, dataset, ("CPU", "CPU:1", "CPU:2"))
