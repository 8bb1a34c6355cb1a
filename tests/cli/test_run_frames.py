"""`edgeae run --raw`: video frames."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import PROGRAM, error, photo, run
from PIL import Image

from edgeae.inference.load import load

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("output", ["-", "out"])
def test_raw_frames(shelf: Path, output: str) -> None:
    frames = np.stack([photo(16, 24, seed=seed) for seed in range(3)])
    model = shelf / "faces-conv.safetensors"
    done = subprocess.run(
        [*PROGRAM, "run", "-m", model, "-d", "CPU", "--raw", "24x16", "-", "-o", output],
        input=frames.tobytes(),
        capture_output=True,
        check=True,
    )
    assert b"3 frames" in done.stderr
    restored = (
        np.frombuffer(done.stdout, np.uint8).reshape(-1, 16, 24, 3)
        if output == "-"
        else np.stack([np.asarray(Image.open(f"out/{i:06}.png")) for i in (1, 2, 3)])
    )
    session = load(model, "CPU")
    assert np.array_equal(restored, np.stack([session.reconstruct(frame) for frame in frames]))


def test_raw_frames_that_end_early(shelf: Path) -> None:
    Path("frames.rgb").write_bytes(photo(16, 24).tobytes() + b"abc")
    result = run("run", "--raw", "24x16", "frames.rgb", "-o", "out", code=1)
    assert "3 of 1152 bytes after 1 whole ones" in error(result)
    assert [path.name for path in Path("out").iterdir()] == ["000001.png"]
