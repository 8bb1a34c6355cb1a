"""The script that times every kernel by itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers import ROOT
from helpers.kernel_cases import needs_compiler


@needs_compiler
def test_kernels_script(tiny_file: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "tests/bench/kernels.py", "-m", tiny_file("residual"), "--batch", "1", "--rounds", "1"],
        cwd=ROOT,
        env={**os.environ, "DEV": "CPU"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "weight_gradient" in done.stdout and "input gradient" in done.stdout
