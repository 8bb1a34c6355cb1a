"""What several test files share that is no fixture: a child process, and a picture."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]


def answer(code: str, **environment: str) -> object:
    """What Python code, which finds `json` and `devices` imported, prints as JSON on its last line in a child."""
    names = ("DEV", "EDGEAE_DEVICE", "CC", "DEBUG", "CPU_COUNT")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", f"import json; from edgeae import devices\n{code}"],
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
    return np.uint8(np.rint(255 * (noise - noise.min()) / np.ptp(noise)))
