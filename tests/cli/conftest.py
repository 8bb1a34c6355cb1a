"""Shared by the tests of the command line: pictures, data, and a trained model."""

from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_TRAINING, photo, run
from PIL import Image


@pytest.fixture
def pictures() -> list[str]:
    """Two pictures and a broken one, in the working folder."""
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(photo(20, 24, seed=seed)).save(name)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return ["a.png", "b.png", "broken.png"]


@pytest.fixture
def data() -> str:
    """A file of 18 pictures to train on."""
    np.savez("photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(18)]))
    return "photos.npz"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, device: str) -> Path:
    """A run folder that `edgeae train` made."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(18)]))
    run(
        "train",
        "conv",
        "--data",
        folder / "photos.npz",
        *TINY_TRAINING,
        "--epochs",
        "1",
        "-o",
        folder / "run",
        "-d",
        "CPU",
    )
    return folder / "run"
