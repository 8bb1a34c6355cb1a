"""Read from the task that a weight file names what its network does with colors."""

from __future__ import annotations

from contextlib import suppress

from edgeae.config import IMAGE_TO_IMAGE, ModelConfig
from edgeae.errors import UsageError
from edgeae.images.damage.spec import parse


def output_mode(mode: str, config: ModelConfig, task: str) -> str:
    """Return the mode of a result: the photo's, unless the network makes or removes colors.

    Args:
        mode: of the photo's rows (colours.py).
        config: of the network.
        task: what it was trained on, as its weight file says.
    """
    alpha = "A" if mode.endswith("A") else ""
    if config.out_channels == 1:
        return "L" + alpha
    makes_color = config.in_channels == 1 or removes_color(task) or task == IMAGE_TO_IMAGE
    return "RGB" + alpha if makes_color and mode.startswith("L") else mode


def removes_color(task: str, least: float = 0.0) -> bool:
    """Return whether every damage of a task is `gray` with at least this strength, 0 to 1."""
    with suppress(UsageError):  # a task that is no damage, such as "image-to-image"
        return all(
            any(step.name == "gray" and step.strength >= least for step in steps) for steps in parse(task).choices
        )
    return False
