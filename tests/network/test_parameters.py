"""Finding the parameters of a network: all of them, by the names of their attributes."""

import contextlib
import gc
import importlib
import weakref
from typing import Any

import pytest
from helpers import ROOT
from tinygrad import Tensor

from edgeae.config import ARCHS, ModelConfig
from edgeae.network import models
from edgeae.network.layers import Conv2d, Init
from edgeae.network.models import build
from edgeae.network.parameters import layer_names, parameters


def test_parameters_are_named_by_their_attributes(arch: str, tiny_config: Any) -> None:
    model: Any = build(tiny_config(arch), "PYTHON")
    named = {name: value for name, value, _ in parameters(model)}
    assert named["down.0.weight"] is model.down[0].weight
    assert named["to_image.bias"] is model.to_image.bias
    if arch == "residual":
        assert named["gather.0.conv2.weight"] is model.gather[0].conv2.weight


def test_every_tensor_of_a_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """`parameters` finds all that `Init` made, in the three networks and in those of the ablation."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    pytest.importorskip("cv2", reason="the ablation scores beside OpenCV")
    variants = importlib.import_module("ablation").VARIANTS
    made: list[weakref.ref[Tensor]] = []

    class RecordingInit(Init):
        def weight(self, *shape: int, gain: float = 1.0) -> Tensor:
            made.append(weakref.ref(tensor := super().weight(*shape, gain=gain)))
            return tensor

        def bias(self, size: int) -> Tensor:
            made.append(weakref.ref(tensor := super().bias(size)))
            return tensor

    monkeypatch.setattr(models, "Init", RecordingInit)
    networks: list[tuple[str, dict[str, Any], Any]] = [(arch, {}, contextlib.nullcontext) for arch in ARCHS]
    networks += [(variant.arch, variant.model, variant.patched) for variant in variants]
    for arch, changes, patched in networks:
        made.clear()
        with patched():
            model = build(ModelConfig.default(arch, **changes), "PYTHON")
        gc.collect()
        held = {id(tensor) for ref in made if (tensor := ref()) is not None}
        assert {id(value) for _, value, _ in parameters(model)} == held


def test_an_object_that_is_no_layer_is_an_error(device: str) -> None:
    model = build(ModelConfig.default("conv"), device)
    model.merge = [Conv2d(4, 4, 3, Init(device)), lambda x: x]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"ConvAE\.merge\.1 is a function: derive it from layers\.Layer"):
        list(parameters(model))
    model.merge = {"a": Conv2d(4, 4, 3, Init(device))}  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"ConvAE\.merge is a dict"):
        list(parameters(model))


def test_layer_names(tiny_config: Any) -> None:
    model: Any = build(tiny_config("conv"), "PYTHON")
    names = layer_names(model)
    assert names[id(model.down[1])] == "down.1"
    assert names[id(model.gather[0].conv2)] == "gather.0.conv2"
    assert set(names.values()) == {name.rpartition(".")[0] for name, _, _ in parameters(model)}
