"""Configurations: JSON round trips, and an error that names each bad key, type and range."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeae.config import ARCHS, ModelConfig, TrainConfig
from edgeae.errors import TrainingError, UsageError, WeightsError

HUGE = 10**400  # no float holds it
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def model_json(**changes: Any) -> str:
    return json.dumps({**json.loads(ModelConfig.default("conv").to_json()), **changes})


def test_defaults_round_trip(arch: str) -> None:
    config = ModelConfig.default(arch)
    text = config.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert ModelConfig.from_json(text, "x") == config
    assert hash(ModelConfig.from_json(text, "x")) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.size = 32  # type: ignore[misc]


@unhurried
@given(
    st.builds(
        lambda arch, steps, widths, **rest: ModelConfig(
            arch=arch,
            widths=tuple(widths),
            size=steps * 2 ** len(widths),
            **rest,
        ),
        arch=st.sampled_from(ARCHS),
        steps=st.integers(1, 9),
        widths=st.lists(st.integers(1, 512), min_size=1, max_size=8),
        code=st.integers(20, 65536),
        context=st.integers(0, 64),
        in_channels=st.sampled_from([1, 3]),
        out_channels=st.sampled_from([1, 3]),
    )
)
def test_every_model_config_round_trips(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json(), "x") == config


@unhurried
@given(
    st.builds(
        TrainConfig,
        data=st.text(),
        targets=st.none() | st.text(),
        epochs=st.integers(1, 1_000_000),
        lr=st.floats(1e-9, 10),
        beta=st.floats(0, 1e6),
        seed=st.integers(0, 2**32 - 1),
        limit=st.none() | st.integers(2, 2**31),
        augment=st.booleans(),
        corrupt=st.text(),
    )
)
def test_every_train_config_round_trips(config: TrainConfig) -> None:
    assert TrainConfig.from_json(config.to_json(), "x") == config


def test_whole_numbers_are_floats_too() -> None:
    config = TrainConfig.from_json('{"data": "x", "beta": 1, "lr": 1}', "x")
    assert isinstance(config.beta, float)
    assert config.lr == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "'arch' is missing"),
        (model_json(colour=1), "unknown configuration key 'colour'; known are arch, size"),
        (model_json(arch="gan"), "unknown architecture 'gan'; choose one of conv, residual, vae"),
        (model_json(arch=None), "'arch' has the wrong type"),
        (model_json(size="64"), "'size' has the wrong type ('64')"),
        (model_json(size=64.0), "'size' has the wrong type (64.0)"),
        (model_json(size=True), "'size' has the wrong type (True)"),
        (model_json(size=math.nan), "'size' has the wrong type (nan)"),
        (model_json(size=0), "size must be between 8 and 4096, not 0"),
        (model_json(size=-64), "size must be between 8 and 4096, not -64"),
        (model_json(size=60), "size must be a multiple of 8"),
        (model_json(size=8192), "size must be between 8 and 4096, not 8192"),
        (model_json(size=HUGE), "size must be between 8 and 4096, not 1000000"),
        (model_json(widths=32), "'widths' has the wrong type"),
        (model_json(widths=[32, None]), "'widths' has the wrong type (None)"),
        (model_json(widths=[[32]]), "'widths' has the wrong type ([32])"),
        (model_json(widths=[]), "the number of widths must be between 1 and 8, not 0"),
        (model_json(widths=[8] * 9), "the number of widths must be between 1 and 8, not 9"),
        (model_json(widths=[8, 0]), "each width must be between 1 and 4096, not 0"),
        (model_json(widths=[HUGE]), "each width must be between 1 and 4096"),
        (model_json(in_channels=2), "in_channels must be 1 (grey) or 3 (RGB), not 2"),
        (model_json(out_channels=HUGE), "out_channels must be 1 (grey) or 3 (RGB)"),
        (model_json(code=0), "code must be between 1 and 65536, not 0"),
        (model_json(arch="vae", code=19), "code must be between 20 and 65536, not 19"),
        (model_json(context=65), "context must be between 0 and 64, not 65"),
        (model_json(arch="x" * 100_000), "unknown architecture 'xxx"),
        (model_json(**{"k" * 100_000: 1}), "unknown configuration key 'kkk"),
        (model_json(size="\n" * 100_000), "'size' has the wrong type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_model_configs_are_named(text: str, said: str) -> None:
    with pytest.raises(WeightsError) as caught:
        ModelConfig.from_json(text, "some/file")
    message = str(caught.value)
    assert message.startswith("some/file: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs must be between"),
        ({"batch": 0}, "batch must be between 1 and 65536, not 0"),
        ({"lr": 0.0}, "lr must be between"),
        ({"lr": math.nan}, "lr must be between 1e-09 and 10, not nan"),
        ({"lr": math.inf}, "lr must be between 1e-09 and 10, not inf"),
        ({"lr": HUGE}, "'lr' has the wrong type"),
        ({"lr": True}, "'lr' has the wrong type"),
        ({"warmup": 1.1}, "warmup must be between 0 and 1, not 1.1"),
        ({"beta_warmup": -0.1}, "beta_warmup must be between"),
        ({"skip_drop": 2}, "skip_drop must be between"),
        ({"weight_decay": -1}, "weight_decay must be between"),
        ({"beta": -1}, "beta must be between"),
        ({"seed": 2**32}, "seed must be between"),
        ({"seed": -1}, "seed must be between"),
        ({"limit": 1}, "limit must be between"),
        ({"loss": "l1"}, "unknown loss 'l1'; choose one of mse, bce"),
        ({"augment": 1}, "'augment' has the wrong type"),
        ({"targets": 1}, "'targets' has the wrong type"),
    ],
)
def test_bad_train_configs_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        TrainConfig.from_json(json.dumps({"data": "faces", **changes}), "run/config.json", TrainingError)
    assert str(caught.value).startswith("run/config.json: ")
    assert said in str(caught.value)


def test_bad_arguments_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'gan'"):
        ModelConfig.default("gan")
    with pytest.raises(UsageError, match="lr must be between"):
        TrainConfig("faces", lr=math.nan)


@pytest.mark.parametrize(
    ("config", "stride", "shape"),
    [
        (ModelConfig("conv", widths=(8, 8, 8), code=5), 8, (8, 12, 5)),
        (ModelConfig("residual", widths=(8, 8), code=5), 4, (16, 24, 5)),
        (ModelConfig("vae", widths=(8, 8, 8, 8), code=30), 16, (30,)),
    ],
)
def test_stride_and_code_shape(config: ModelConfig, stride: int, shape: tuple[int, ...]) -> None:
    assert config.stride == stride
    assert config.code_shape(64, 96) == shape
    assert config.takes_any_size == (config.arch != "vae")
    assert config.code_shape(63, 95) == shape  # of the image that is padded to the stride
