"""The benchmarks of tests/bench/: that they run, and that what they compare with is the same network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT

from edgeae.runtime.compilers import find_compiler

BENCH = ROOT / "tests" / "bench"
SCRIPTS = ("train_step", "forward", "kernels", "cold_start")


@pytest.fixture(autouse=True)
def scripts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when one of them is called."""
    monkeypatch.syspath_prepend(str(BENCH))


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{script}.py"), *arguments],
        env={**os.environ, "DEV": "CPU"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run(script: str, tmp_path: Path, tiny_file: Callable[..., Path]) -> None:
    if script == "kernels" and find_compiler() is None:
        pytest.skip("no C compiler")
    path = tmp_path / "times.json"
    chosen = {"kernels": (), "cold_start": ("--model", str(tiny_file("conv")), "--size", "16")}
    output = run(script, "--quick", "--json", str(path), *chosen.get(script, ("--net", "vae")))
    assert max(map(len, output.splitlines())) <= 100
    document = json.loads(path.read_text())
    assert document["machine"]["versions"]["tinygrad"]
    assert document["results"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_explain_themselves(script: str) -> None:
    assert f"python tests/bench/{script}.py" in run(script, "--help")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["reference", "conv", "residual", "vae"])
def test_twins(name: str, layout: Any, device: str) -> None:
    torch = pytest.importorskip("torch")
    from networks import Net, draw_images
    from tinygrad import Tensor
    from twins import to_torch, twin

    net = Net.of(name, quick=True)
    model, [x] = net.build(), draw_images(net, 2, 1)
    with torch.inference_mode():
        found = twin(model, layout)(to_torch(x, layout)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(model.reconstruct(Tensor(x, device=device)).numpy(), found, rtol=0, atol=1e-5)


def test_the_reference_net_is_the_one_of_the_goals() -> None:
    from networks import Net

    from edgeae.network.parameters import parameters

    assert sum(int(np.prod(value.shape)) for _, value, _ in parameters(Net.of("reference").build())) == 331_075


def test_turns() -> None:
    from timing import Engine, table, take_turns

    order: list[tuple[str, int]] = []
    checked: list[tuple[str, int]] = []

    def engine(name: str, rounds: int | None = None) -> Engine:
        def call(i: int) -> int:
            order.append((name, i))
            return i

        return Engine(name, call, lambda i, output: checked.append((name, output)), rounds=rounds)

    times = take_turns([engine("a"), engine("b", rounds=1)], rounds=2, calls=2, idle_s=0, warm_up=1)
    turns = [(name, i) for name, start in (("a", 1), ("b", 1), ("a", 4)) for i in range(start, start + 3)]
    assert order == [("a", 0), ("b", 0), *turns]
    assert checked == [("a", 0), ("b", 0), ("a", 1), ("a", 3), ("b", 1), ("b", 3), ("a", 4), ("a", 6)]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 2}
    assert len(table(times, "a")) == 3


@pytest.mark.parametrize("found", [[1.0, 2.1], [np.nan, 2.0], [1.0]])
def test_wrong_outputs_are_seen(found: list[float]) -> None:
    from timing import WrongOutput, must_be_close

    must_be_close(np.array([1.0, 2.0 + 1e-5]), np.array([1.0, 2.0]), 1e-4, "right")
    with pytest.raises(WrongOutput):
        must_be_close(np.array(found), np.array([1.0, 2.0]), 1e-4, "wrong")
