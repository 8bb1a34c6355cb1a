"""What fuzzing found (fuzz/fuzz.py), and a short run of it without the fuzzer: damaged sound files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "tests" / "fuzz"))

import fuzz

FINDS = sorted(path for path in fuzz.FINDS.glob("*") if path.is_file())


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.name)
def test_finds(path: Path) -> None:
    fuzz.check(path.name.partition("-")[0], path.read_bytes())


@pytest.mark.parametrize("target", sorted(fuzz.TARGETS))
def test_damaged_files(target: str, tmp_path: Path) -> None:
    fuzz.seeds(target, tmp_path)
    files = sorted(tmp_path.iterdir())
    rng = np.random.default_rng(0)
    for path in files:
        fuzz.TARGETS[target](path.read_bytes()) if target != "idx" or path.name.count("x") > 1 else None
    for _ in range(300):
        data = bytearray(files[rng.integers(len(files))].read_bytes())
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        fuzz.check(target, bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data))
