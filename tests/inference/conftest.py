"""What several tests of photos and folders share."""

from pathlib import Path

import pytest
from helpers import photo
from PIL import Image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`in` with pictures in three levels, of several formats, and other files."""
    root = tmp_path / "in"
    for i, name in enumerate(("a.png", "b c.jpg", "deep/d.webp", "deep/er/e.bmp", "deep/er/ü.tif", "deep/er/f.gif")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(seed=i)).save(root / name)
    (root / "notes.txt").write_text("no picture")
    return root
