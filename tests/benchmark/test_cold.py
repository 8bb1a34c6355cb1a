"""The first image of a fresh process."""

from pathlib import Path

import pytest
from helpers import FileFactory

from edgeae.benchmark import cold


def test_the_first_image_of_a_fresh_process(tiny_file: FileFactory) -> None:
    empty, full = cold.measure(tiny_file("conv"), "edgeae", "CPU", 16, 16, 1)
    for start in (empty, full):
        assert 0 < start.imports < start.first_image and start.load > 0
        assert 20e6 < start.peak_bytes < 4e9
    assert empty.compile > full.compile


def test_a_process_that_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(cold.ColdStartError, match="safetensors"):
        cold.measure(tmp_path / "broken.safetensors", "edgeae", "CPU", 16, 16, 1)
