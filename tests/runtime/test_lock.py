"""The lock around tinygrad: in turn, and never left out."""

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
            with turns.turn:
                turns.enter()
                time.sleep(0.001)

    thread = threading.Thread(target=loop)
    thread.start()
    begun = time.monotonic()
    for _ in range(20):
        with turns.turn:
            turns.enter()
    done.set()
    thread.join()
    assert time.monotonic() - begun < 10


def test_the_lock_is_reentrant() -> None:
    turns, outcome = Turns(), []
    with turns.turn, turns.turn:
        thread = threading.Thread(target=lambda: outcome.append(turns.lock.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert outcome == [False] and not turns.held()


def test_what_another_thread_frees_waits_for_the_lock() -> None:
    turns, freed = Turns(), []
    with turns.turn:
        thread = threading.Thread(target=lambda: turns.free(lambda: freed.append(turns.held())))
        thread.start()
        thread.join()
        assert not freed
        turns.free_left()  # as `tinygrad_on` does
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
        with TINYGRAD.turn, tinygrad_on(device):
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
    line = line.replace("FLOATS", str(tiny_file("conv", golden=True)))
    uses.clear()  # the helper's own
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output


def test_an_interrupted_call_leaves_nothing_to_wait_for(device: str) -> None:
    from tinygrad import Device

    with pytest.raises(KeyboardInterrupt), TINYGRAD.turn, tinygrad_on("CPU"):
        Device["CPU"].next_timeline()  # announced, and never handed over
        raise KeyboardInterrupt
    with TINYGRAD.turn, tinygrad_on("CPU"):
        assert Tensor([1.0, 2.0], device="CPU").sum().item() == 3
    assert not TINYGRAD.held()


def test_an_error_of_a_worker_does_not_stay(device: str) -> None:
    from tinygrad import Device

    with pytest.raises(edgeae.DeviceError, match="broken"), TINYGRAD.turn, tinygrad_on("CPU"):
        Device["CPU"].error_state = RuntimeError("broken")
        Device["CPU"].synchronize()
    with TINYGRAD.turn, tinygrad_on("CPU"):
        assert Tensor([1.0, 2.0], device="CPU").sum().item() == 3


def test_a_session_in_memory_cannot_be_sent(tiny_file: Callable[..., Any], device: str) -> None:
    import pickle

    from edgeae.inference.load import open_session
    from edgeae.network import weight_file

    session = open_session(weight_file.read(tiny_file("conv")), device)
    with pytest.raises(TypeError, match="load it there"):
        pickle.dumps(session)


def test_an_interrupt_leaves_the_lock_free_while_its_traceback_is_kept(device: str) -> None:
    def interrupt(number: int, frame: object) -> None:
        if armed:
            raise KeyboardInterrupt

    def try_lock() -> bool:
        taken: bool = TINYGRAD.lock.acquire(timeout=5)
        if taken:
            TINYGRAD.lock.release()
        return taken

    armed, hook, random = False, sys.unraisablehook, np.random.default_rng(0)
    before = signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = lambda dropped: None  # interrupts that fall into a finalizer
    try:
        with ThreadPoolExecutor(1) as pool:
            for wait in random.uniform(2e-6, 2e-4, 300):
                kept = None
                try:
                    signal.setitimer(signal.ITIMER_REAL, wait)
                    armed = True
                    for _ in range(5):
                        with TINYGRAD.turn, tinygrad_on("CPU"):
                            pass
                        TINYGRAD.free(lambda: None)
                    armed = False
                except KeyboardInterrupt as interrupt_:
                    armed, kept = False, interrupt_
                assert pool.submit(try_lock).result(), kept
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = hook
        gc.enable()


class _SoftTimeLimit(Exception):
    """As celery and rq raise in a signal's handler."""


@pytest.mark.parametrize("error", [TimeoutError("too slow"), _SoftTimeLimit(), ValueError("mine")], ids=repr)
def test_a_time_limit_of_the_caller_passes_through(error: Exception, device: str) -> None:
    def handler(number: int, frame: object) -> None:
        raise error

    def work() -> None:
        Tensor([1.0], device="CPU").realize()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(type(error)) as caught, TINYGRAD.turn, tinygrad_on("CPU"):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while True:
                work()
        assert caught.value is error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_cannot_call_a_model_in_the_middle_of_a_call(device: str) -> None:
    session = edgeae.load("faces-conv", device="CPU")
    with TINYGRAD.turn, pytest.raises(edgeae.EdgeaeError, match="set a flag"):
        session.reconstruct(IMAGE)


def test_an_interrupt_between_two_steps_of_a_graph(device: str) -> None:
    from tinygrad import Device

    session = edgeae.load("faces-conv", device="CPU")
    expected = [session.reconstruct(IMAGE) for _ in range(3)][-1]
    tasks: Any = Device["CPU"].tasks
    put = tasks.put

    def interrupted(item: object) -> None:
        del tasks.put
        put(item)  # its first command waits for a signal that comes after this
        raise KeyboardInterrupt

    tasks.put = interrupted
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.reconstruct(IMAGE)
    assert np.array_equal(session.reconstruct(IMAGE), expected)
    assert time.monotonic() - begun < 4
