"""The lock around tinygrad: in turn, and never left out."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.lock_watch import watch_tinygrad
from PIL import Image
from tinygrad import Tensor

import edgeae
from edgeae.cli.main import main
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD, Turns

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def test_a_thread_in_a_loop_lets_others_in() -> None:
    turns, done = Turns(), threading.Event()

    def loop() -> None:
        while not done.is_set():
            with turns:
                time.sleep(0.001)

    thread = threading.Thread(target=loop)
    thread.start()
    begun = time.monotonic()
    for _ in range(20):
        with turns:
            pass
    done.set()
    thread.join()
    assert time.monotonic() - begun < 10


def test_the_lock_is_reentrant_and_can_be_waited_for_in_vain() -> None:
    turns, outcome = Turns(), []
    with turns, turns:
        thread = threading.Thread(target=lambda: outcome.append(turns.acquire(timeout_s=0.01)))
        thread.start()
        thread.join()
    assert outcome == [False] and not turns.held()


def test_what_another_thread_frees_waits_for_the_lock() -> None:
    turns, freed = Turns(), []
    with turns:
        thread = threading.Thread(target=lambda: turns.free(lambda: freed.append(turns.held())))
        thread.start()
        thread.join()
        assert not freed
    assert freed == [True]
    turns.free(lambda: freed.append(turns.held()))
    assert freed == [True, True]


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Uses of tinygrad outside the lock; none may be left at the end."""
    gc.collect()
    gc.disable()  # what earlier tests left is not this one's
    try:
        with watch_tinygrad() as found:
            yield found
    finally:
        gc.enable()
    assert not found, "\n".join(dict.fromkeys(found))


def test_a_use_outside_the_lock_is_found(device: str) -> None:
    with watch_tinygrad() as found:
        Tensor.zeros(3, device=device).realize()
        with tinygrad_on(device):
            count = len(found)
            Tensor.zeros(4, device=device).contiguous().realize()
        assert count and len(found) == count
        assert "test_lock" not in found[0] and "MainThread" in found[0]


@pytest.mark.parametrize("model", ["faces-conv", "faces-vae", "photos-residual"])
def test_a_session_uses_tinygrad_in_the_lock(model: str, device: str, uses: list[str]) -> None:
    session = edgeae.load(model, device=device)
    session.reconstruct(IMAGE)
    session.decode(session.encode(IMAGE))
    session.interpolate(IMAGE, IMAGE, steps=3)
    if "vae" in model:
        session.sample(2)
        session.posterior(IMAGE)
    del session


COMMANDS = (
    "devices",
    "info faces-conv",
    "run a.png -o b.png -d CPU",
    "run photos -o restored -d CPU",
    "verify faces-conv -d CPU",
    "sample -m faces-vae -n 2 -o grid.png -d CPU",
    "interpolate a.png a.png -m faces-conv -o walk.png --steps 3 -d CPU",
    "train conv --data photos --size 16 --epochs 1 --batch 4 -o run -d CPU",
    "train vae --data photos --size 16 --epochs 1 --batch 4 -o run -d CPU",
    "evaluate faces-conv --data photos -d CPU",
    "export FLOATS -o small.safetensors --quantize int4 -d CPU",
    "export FLOATS -o model.onnx -d CPU",
    "compile faces-conv -o library",
    "bench -m faces-conv --batch 1 -d CPU -o bench",
    "profile faces-conv -d CPU",
)
SLOW = ("devices", "compile", "bench", "profile", "evaluate", "train vae")


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[pytest.mark.exhaustive] if line.startswith(SLOW) else [], id=line) for line in COMMANDS],
)
def test_a_command_uses_tinygrad_in_the_lock(
    line: str,
    device: str,
    tiny_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uses: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for path in ("a.png", *(f"photos/{i}.png" for i in range(12))):
        Image.fromarray(IMAGE).save(path)
    with tinygrad_on(device):
        line = line.replace("FLOATS", str(tiny_file("conv", golden=True)))
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output


def test_an_interrupted_call_leaves_nothing_to_wait_for(device: str) -> None:
    from tinygrad import Device

    with pytest.raises(KeyboardInterrupt), tinygrad_on("CPU"):
        Device["CPU"].next_timeline()  # announced, and never handed over
        raise KeyboardInterrupt
    with tinygrad_on("CPU"):
        assert Tensor([1.0, 2.0], device="CPU").sum().item() == 3
    assert not TINYGRAD.held()


def test_an_error_of_a_worker_does_not_stay(device: str) -> None:
    from tinygrad import Device

    with pytest.raises(edgeae.DeviceError, match="broken"), tinygrad_on("CPU"):
        Device["CPU"].error_state = RuntimeError("broken")
        Device["CPU"].synchronize()
    with tinygrad_on("CPU"):
        assert Tensor([1.0, 2.0], device="CPU").sum().item() == 3


def test_a_session_in_memory_cannot_be_sent(tiny_file: Callable[..., Any], device: str) -> None:
    import pickle

    from edgeae.inference.load import open_session
    from edgeae.network import weight_file

    session = open_session(weight_file.read(tiny_file("conv")), device)
    with pytest.raises(TypeError, match="load it there"):
        pickle.dumps(session)
