"""Forks and threads around a loaded model: an answer, the same as ever, bit for bit (tests/helpers/processes.py)."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from helpers.tiers import by_tier, exhaustive

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SCRIPT = ROOT / "tests" / "helpers" / "processes.py"
ROUNDS = by_tier(1, 50)
QUICK = (
    "loaded-in-the-child",  # first: nothing is loaded yet
    "loaded-before-used-in-both",
    "never-called-before-the-fork",
    "fork-while-another-thread-calls",
    "fork-while-another-thread-loads-and-compiles",
    "fork-of-a-fork",
    "fork-of-a-fork-that-calls-nothing",
    "fork-from-a-thread",
    "forks-from-three-threads-at-once",
    "four-workers-serve-at-once",
    "threads-in-the-child",
    "child-frees-the-model",
    "daemon-by-two-forks",
    "fork-in-a-signal-handler",
    "fork-then-exec",
    "subprocess-waits-for-nobody",
    "multiprocessing-pool",
    "multiprocessing-pool-in-a-thread",
    "process-pool-executor",
    "workers-fetch-pictures-through-queues",
    "pickled",
    "eight-threads-three-models",
    "asyncio-to-thread",
    "no-more-threads",
)
LONG = (
    "another-size-in-the-child",
    "first-loads-at-once",
    "forkserver",
    "garbage-collected-in-another-thread",
    "interrupted-call",
    "load-while-another-thread-trains",
    "sessions-freed-by-another-thread",
    "spawn",
)
LONG_ROUNDS = 5


def run_scenarios(rounds: int, names: tuple[str, ...], folder: Path, **environment: str) -> dict[str, str]:
    """Run scenarios in a process of their own; return what each of them ended with."""
    child = subprocess.run(
        [sys.executable, str(SCRIPT), str(rounds), *names],
        env=os.environ | {"PYTHONPATH": str(ROOT), "EDGEAE_TEST_FOLDER": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=120 * rounds,
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    assert child.returncode == 0 and not child.stderr, child.stderr
    return {line["name"]: line["outcome"] for line in lines}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_scenarios(ROUNDS, QUICK, tmp_path_factory.mktemp("forking"))


@pytest.mark.parametrize("name", QUICK)
def test_every_process_and_thread_has_its_answer(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == "ok"


@exhaustive
@pytest.mark.parametrize("name", LONG)
def test_long_ones(name: str, tmp_path: Path) -> None:
    assert run_scenarios(LONG_ROUNDS, (name,), tmp_path) == {name: "ok"}


@exhaustive
def test_first_loads_with_an_empty_kernel_cache(tmp_path: Path) -> None:
    name = "fork-while-another-thread-loads-and-compiles"
    assert run_scenarios(1, (name,), tmp_path, XDG_CACHE_HOME=str(tmp_path)) == {name: "ok"}


def test_compiled_libraries_too(library: Callable[..., Any], tmp_path: Path) -> None:
    path = str(library("conv", threads=2).library)
    assert run_scenarios(ROUNDS, ("compiled-library",), tmp_path, EDGEAE_TEST_LIBRARY=path) == {
        "compiled-library": "ok"
    }


def test_all_scenarios_are_run() -> None:
    spec = importlib.util.spec_from_file_location("processes", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {*QUICK, *LONG, "compiled-library"} == set(module.SCENARIOS)


def run_python(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


EXIT = """
import threading, time, numpy as np, edgeae
session, image = edgeae.load("faces-conv", device="CPU"), np.zeros((64, 64, 3), np.uint8)
def work():
    while True: session.reconstruct(image)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""


def test_exit_in_the_middle_of_another_threads_call() -> None:
    child = run_python(EXIT)
    assert (child.returncode, child.stderr) == (0, "")


IMPORTING = """
import os, threading, time, edgeae
threading.Thread(target=lambda: edgeae.load).start()
time.sleep(0.05)
if os.fork() == 0:
    try: edgeae.load
    except edgeae.EdgeaeError as error: print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_fork_in_the_middle_of_an_import_is_told() -> None:
    child = run_python(IMPORTING)
    assert child.returncode == 0
    # Nothing where the import was quicker than the fork.
    assert not child.stdout or "edgeae.load once before anything forks" in child.stdout


OPENCL = """
import os, numpy as np, edgeae
session, image = edgeae.load("faces-conv", device="CL"), np.zeros((64, 64, 3), np.uint8)
before = session.reconstruct(image)
if os.fork() == 0:
    for call in (lambda: session.reconstruct(image), lambda: edgeae.load("faces-conv", device="CL")):
        try: call()
        except edgeae.DeviceError as error: print(error, flush=True)
    print(edgeae.load("faces-conv", device="CPU").reconstruct(image).shape, flush=True)
    del session, call
    raise SystemExit  # with all that runs at exit
os.wait()
assert (session.reconstruct(image) == before).all()
"""


@exhaustive
def test_opencl_is_refused_in_a_child_and_left_alone() -> None:
    from edgeae.runtime import devices

    if not devices.probe("CL").usable:
        pytest.skip("there is no OpenCL")
    child = run_python(OPENCL)
    assert child.returncode == 0, child.stderr
    refused = "CL was opened before this process was forked, and its driver does not work in the child: load the model"
    assert [line[: len(refused)] for line in child.stdout.splitlines()] == [refused, refused, "(64, 64, 3)"]
