"""What a network does with colors, by the task in its weight file."""

import pytest

from edgeae.config import ModelConfig
from edgeae.inference.task import output_mode, removes_color


@pytest.mark.parametrize(("mode", "channels", "task", "expected"), [
    ("RGB", (3, 3), "occlude", "RGB"), ("L", (3, 3), "occlude", "L"), ("LA", (3, 3), "noise", "LA"),
    ("CMYK", (3, 3), "jpeg", "CMYK"), ("L", (3, 3), "gray", "RGB"), ("LA", (3, 3), "gray:0.5+noise", "RGBA"),
    ("RGB", (3, 1), "image-to-image", "L"), ("RGBA", (3, 1), "image-to-image", "LA"), ("L", (1, 3), "x", "RGB"),
    ("L", (3, 3), "image-to-image", "RGB"), ("RGB", (1, 1), "blur", "L"),
])  # fmt: skip
def test_output_mode(mode: str, channels: tuple[int, int], task: str, expected: str) -> None:
    config = ModelConfig.default("conv", in_channels=channels[0], out_channels=channels[1])
    assert output_mode(mode, config, task) == expected


@pytest.mark.parametrize(
    ("task", "least", "expected"),
    [("gray", 1, True), ("gray:0.5+noise", 1, False), ("gray:0.5+noise", 0, True), ("gray,none", 0, False)],
)
def test_removes_color(task: str, least: float, expected: bool) -> None:
    assert removes_color(task, least) == expected
