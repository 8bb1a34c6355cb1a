"""What several test files share that is no fixture: child processes, a picture, and commands run as users run them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from scipy.ndimage import gaussian_filter

from edgeae.cli.main import main
from edgeae.config import ModelConfig

ConfigFactory = Callable[..., ModelConfig]  # the fixture `tiny_config`
FileFactory = Callable[..., Path]  # the fixture `tiny_file`
ROOT = Path(__file__).resolve().parents[2]


def answer(code: str, **environment: str) -> object:
    """What Python code, which finds `json` and `devices` imported, prints as JSON on its last line in a child."""
    names = ("DEV", "EDGEAE_DEVICE", "CC", "DEBUG", "CPU_COUNT")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", f"import json; from edgeae.runtime import devices\n{code}"],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def photo(height: int = 24, width: int = 36, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth random picture with the full range of brightness."""
    noise = gaussian_filter(np.random.default_rng(seed).random((height, width, channels)), (4, 4, 0))
    levels: np.ndarray = np.rint(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    return levels


# ---- the command line --------------------------------------------------------------------------------------------

PROGRAM = [sys.executable, "-m", "edgeae"]
TINY_TRAINING = ["--size", "16", "--widths", "4", "--code", "4", "--limit", "16", "--batch", "8"]  # of `edgeae train`


def run(*arguments: object, code: int = 0, **settings: Any) -> Result:
    """Run a command in this process; its exit code must be `code`."""
    result = CliRunner(**settings).invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"exit {result.exit_code}: {result.output}\n{result.exception!r}"
    return result


def error(result: Result) -> str:
    """The one line that tells of a failure."""
    assert "Traceback" not in result.output and result.stderr.endswith(".\n")
    return result.stderr.splitlines()[-1].removeprefix("edgeae: ")


def child(*arguments: object, code: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a program."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, timeout=120, **{"encoding": "utf-8", **settings}
    )
    assert done.returncode == code, done.stderr
    return done


def scene(size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture (H, W, 3) and a hole in it."""
    y, x = np.mgrid[:size, :size] / size
    picture = np.stack([0.3 + 0.4 * x, 0.5 - 0.3 * y, 0.4 + 0.2 * x * y], axis=-1).astype(np.float32)
    hole = np.zeros((size, size), bool)
    hole[14:31, 10:37] = True
    return picture, hole
