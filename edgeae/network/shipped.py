"""Find the weight files of the shipped models by name."""

from __future__ import annotations

import os
from pathlib import Path

from edgeae.errors import WeightsError

DEFAULT = "photos-residual"  # of `run`
DEFAULT_VAE = "faces-vae"  # of `interpolate` and `sample`
LIBRARIES = (".so", ".dylib")  # suffixes of compiled libraries, which `edgeae compile` writes
SUFFIX = ".safetensors"


def folders() -> list[Path]:
    """Return the folders that may hold shipped models: of an installed package, then of a source tree."""
    package = Path(__file__).parents[1]
    return [package / "shipped", package.parent / "models"]


def names() -> list[str]:
    """Return the names of all shipped models, sorted."""
    return sorted({path.stem for folder in folders() for path in folder.glob(f"*{SUFFIX}") if path.is_file()})


def find_model(model: str | os.PathLike[str]) -> Path:
    """Return the path of a weight file.

    Args:
        model: name of a shipped model, or a path. Text with a slash or the suffix `.safetensors` is a path.

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
