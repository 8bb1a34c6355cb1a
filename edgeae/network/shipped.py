"""The shipped models: their names, and where their files lie."""

from __future__ import annotations

import os
from pathlib import Path

from edgeae.errors import WeightsError

DEFAULT = "photos-residual"  # what `run` takes
DEFAULT_VAE = "faces-vae"  # what `interpolate` and `sample` take
LIBRARIES = (".so", ".dylib")  # suffixes of what `edgeae compile` makes
SUFFIX = ".safetensors"


def folders() -> list[Path]:
    """Where shipped models are looked for: in an installed package, then in a source tree."""
    package = Path(__file__).parents[1]
    return [package / "shipped", package.parent / "models"]


def names() -> list[str]:
    """Every shipped model, sorted."""
    return sorted({path.stem for folder in folders() for path in folder.glob(f"*{SUFFIX}") if path.is_file()})


def find_model(model: str | os.PathLike[str]) -> Path:
    """The weight file of a shipped name, or the path itself.

    Anything with a slash or the suffix `.safetensors` is a path, everything else a name.

    Raises:
        WeightsError: no shipped model has this name.
    """
    text = os.fspath(model)
    if "/" in text or os.sep in text or text.endswith(SUFFIX) or isinstance(model, Path):
        return Path(text)
    for folder in folders():
        if (path := folder / f"{text}{SUFFIX}").is_file():
            return path
    known = ", ".join(names()) or "none"
    raise WeightsError(f"there is no shipped model {text!r} (shipped: {known}); for a file give its path.")
