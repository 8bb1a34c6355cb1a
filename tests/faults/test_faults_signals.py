"""Ctrl-C at random moments: one sentence, exit 130, whole files only, and a second run that does the rest."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import ROOT, faults, photo
from helpers.faults import LEFT_OVER, PROGRAM, Ended, Nursery, sentence, whole
from helpers.tiers import by_tier
from PIL import Image

from edgeae.cli.main import main
from edgeae.network import weight_file as weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

RUNS, TRAININGS = by_tier((8, 4), (76, 24))
EPOCHS = 5
PHOTOS = 40
AT_ONCE = 2
TINY = ["--size", "16", "--widths", "4", "--code", "4", "--batch", "8", "--epochs", EPOCHS]
SECOND_RUNS = 10  # of all; it takes long to check each


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where children come from."""
    made = Nursery(tmp_path_factory.mktemp("scratch"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, device: str, tiny_config: Any, random_weights: Any, tiny_metadata: Any
) -> Path:
    """A folder with a model, small photos many times over, and a data file."""
    place = tmp_path_factory.mktemp("signals")
    (place / "training").mkdir()
    weights.write(place / "m.safetensors", random_weights(tiny_config("conv")), tiny_metadata(tiny_config("conv")))
    np.savez(place / "photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(18)]))
    for i in range(PHOTOS):
        path = place / "photos" / str(i % 2) / f"{i}.{('png', 'jpg', 'webp')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(24 + i % 4, 32, seed=i)).save(path)
    return place


def moments(count: int, nursery: Nursery, line: list[object], place: Path) -> list[float]:
    """Delays in seconds, drawn evenly over what the command takes when as many run at once as later do."""
    check(nursery.run([*line, "warm"], place))  # the kernels are compiled
    ended = nursery.run_all([([*line, f"whole{i}"], None) for i in range(AT_ONCE)], place, AT_ONCE)
    assert not any(check(one) for one in ended)
    seconds = max(one.seconds for one in ended)
    return [float(delay) for delay in np.random.default_rng(20_241).uniform(0, seconds, count)]


def check(ended: Ended) -> bool:
    """That a command ended as it should; returns whether it was interrupted.

    By the signal itself where it comes after the work, when the interpreter is about to go.
    """
    known = ended.code in (0, signal.SIGINT + 128, -signal.SIGINT)
    assert known, f"exit {ended.code}: {ended.stderr}"
    assert "Traceback" not in ended.stderr, ended.stderr
    if ended.code > 0:
        assert sentence(ended.stderr) == "edgeae: interrupted."
    return ended.code > 0


def left_over(folder: Path) -> list[str]:
    """Temporary files that remain; everything else is whole."""
    names = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            if path.name.startswith(LEFT_OVER):
                names.append(path.name)
            else:
                whole(path)
    return names


@pytest.fixture(scope="module")
def runs(place: Path, nursery: Nursery) -> list[bool]:
    """Whether each run of RUNS, which writes to `out/NUMBER`, was interrupted."""
    line: list[object] = ["run", "photos", "-m", "./m.safetensors", "-q", "--batch", 1, "-o"]
    delays = moments(RUNS, nursery, line, place)
    tasks = [([*line, f"out/{i}"], delay) for i, delay in enumerate(delays)]
    return [check(ended) for ended in nursery.run_all(tasks, place, AT_ONCE)]


def test_no_temporary_file_stays(place: Path, runs: list[bool]) -> None:
    remains = [path.name for path in (place / "out").rglob(f"{LEFT_OVER}*")]
    assert not remains, f"{len(remains)} of {sum(runs)} interrupted runs"


def test_run_stopped_at_random_moments(place: Path, runs: list[bool], nursery: Nursery) -> None:
    expected, interrupted = faults.files(place / "whole0"), runs
    assert len(expected) == PHOTOS and sum(interrupted) > RUNS / 3
    remains, some = [], 0
    for i in range(RUNS):
        remains += left_over(place / "out" / str(i))
        found = faults.files(place / "out" / str(i))
        assert all(expected[name] == data for name, data in found.items() if LEFT_OVER not in name)
        assert interrupted[i] or len(found) == PHOTOS
        some += 0 < len(found) < PHOTOS
    print(f"{sum(interrupted)} of {RUNS} runs interrupted, {some} of them between photos; left over: {remains}")

    # A second run of those that came farthest, all at once: the same tree many times, of which a part is there.
    def came(i: int) -> int:
        return len(faults.files(place / "out" / str(i)))

    chosen = sorted((i for i in range(RUNS) if came(i) < PHOTOS), key=came)[-SECOND_RUNS:]
    for i in chosen:
        shutil.copytree(place / "photos", place / "all" / str(i))
    assert not check(nursery.run(["run", "all", "-m", "./m.safetensors", "-o", "out", "-q", "--batch", 1], place))
    for i in chosen:
        found = faults.files(place / "out" / str(i))
        assert {name: data for name, data in found.items() if LEFT_OVER not in name} == expected


def test_training_stopped_at_random_moments(place: Path, nursery: Nursery) -> None:
    def line(name: str) -> list[object]:
        return ["train", "conv", "--data", place / "photos.npz", *TINY, "-o", name]

    delays = moments(TRAININGS, nursery, line("runs/")[:-1], place / "training")
    expected = weights.read(place / "training" / "whole0" / "last.safetensors")
    tasks = [(line(f"runs/{i}"), delay) for i, delay in enumerate(delays)]
    ended = nursery.run_all(tasks, place, AT_ONCE)
    interrupted = [check(one) for one in ended]
    assert sum(interrupted) > TRAININGS / 5
    remains, epochs = [], []
    for i, one in enumerate(ended):
        folder = place / "runs" / str(i)
        remains += left_over(folder)
        assert (f"--resume runs/{i}" in one.stderr) == (interrupted[i] and (folder / "config.json").exists())
        last = folder / "last.safetensors"
        epochs.append(int(weights.read(last).metadata["epoch"]) if last.exists() else 0)
        assert interrupted[i] or epochs[i] == EPOCHS
    print(f"{sum(interrupted)} of {TRAININGS} trainings interrupted, after epochs {epochs}; left over: {remains}")

    # A second run of a few, each stopped in another epoch: the weights of one that was never stopped.
    for epoch in sorted(set(epochs) - {EPOCHS})[:3]:
        name = f"runs/{epochs.index(epoch)}"
        resumes = (place / name / "config.json").exists()
        assert not check(nursery.run(["train", "--resume", name] if resumes else line(name), place))
        found = weights.read(place / name / "last.safetensors")
        assert found.tensors.keys() == expected.tensors.keys()
        assert all(np.array_equal(found.tensors[key], expected.tensors[key]) for key in expected.tensors)


@pytest.mark.parametrize("where", ["group", "command"])
def test_an_interrupt_while_options_are_read(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main if where == "group" else main.commands["run"], "parse_args", interrupt)
    result = CliRunner().invoke(main, ["run", "a.png"])
    assert result.exit_code == signal.SIGINT + 128 and sentence(result.stderr) == "edgeae: interrupted."


def test_real_programs(place: Path) -> None:
    """As the shell starts them, interrupted from the moment that the command line takes over."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child would inherit an ignored one
    line = [*PROGRAM, "run", "photos", "-m", "./m.safetensors", "-o"]
    settings: dict[str, Any] = {
        "cwd": place,
        "stderr": subprocess.PIPE,
        "stdout": subprocess.DEVNULL,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
    }
    try:
        started = time.monotonic()
        subprocess.run([*line, "real/whole"], check=True, **settings)
        seconds = time.monotonic() - started
        for i, delay in enumerate(np.random.default_rng(1).uniform(0.35 * seconds, seconds, 4)):
            program = subprocess.Popen([*line, f"real/{i}"], **settings)
            time.sleep(delay)
            program.send_signal(signal.SIGINT)
            _, stderr = program.communicate(timeout=60)
            check(Ended(program.returncode, "", stderr, 0))
            left_over(place / "real" / str(i))
    finally:
        signal.signal(signal.SIGINT, before)
