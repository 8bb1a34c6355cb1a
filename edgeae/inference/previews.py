"""Keep small copies of a photo's stages while its rows pass, and draw them side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.images.arrays import Pixels
from edgeae.images.colours import convert, to_depth
from edgeae.images.drawing.grids import Thumbnail, comparison
from edgeae.images.files.turns import to_upright

STAGES = ("original", "damaged", "masked", "restored")  # from left to right


@dataclass
class Previews:
    """Small copies of some of a photo's STAGES.

    Attributes:
        width, height: of the stages in pixels, as their rows are stored.
        orientation: EXIF orientation of the rows, 1 to 8.
    """

    width: int
    height: int
    orientation: int
    _thumbnails: dict[str, Thumbnail] = field(default_factory=dict)

    def add(self, stage: str, rows: npt.NDArray[Any], mode: str) -> None:
        """Add the next rows, (n, width, len(mode)), of a stage (see colours.py)."""
        if stage not in self._thumbnails:
            self._thumbnails[stage] = Thumbnail(self.width, self.height)
        self._thumbnails[stage].add(to_depth(convert(rows, mode, "RGB"), np.uint8))

    def draw(self) -> Pixels:
        """Draw the stages upright, side by side: RGB (H, W, 3)."""
        stages = [stage for stage in STAGES if stage in self._thumbnails]
        row = [to_upright(self._thumbnails[stage].picture(), self.orientation) for stage in stages]
        return comparison([row], stages, min_side=256, max_side=1024)
