"""Write the files that stand beside a compiled library: its header, a C example, a Python wrapper, and a README."""

from __future__ import annotations

from pathlib import Path

from edgeae.engine.source import NetworkCode


def header(code: NetworkCode) -> str:
    """Return the text of NAME.h."""
    features, batch = code.plan.features, code.plan.image.shape[0]
    skips = "" if len(features) == 1 else "\n// A decoded code lacks what skips it on the way through."
    values = {
        "CODE": features[0].size // batch,
        "CODE_SHAPE": " x ".join(map(str, features[0].shape[1:])),
        "SKIPS": skips,
    }
    return code.fill(_read_template("header.h"), values)


def example(code: NetworkCode) -> str:
    """Return the text of example.c, a program that restores a picture."""
    return code.fill(_read_template("example.c"))


def wrapper(code: NetworkCode) -> str:
    """Return the text of edgeae_NAME.py, which needs NumPy alone."""
    return code.fill(_read_template("wrapper.txt"), {"CODE_SHAPE": repr(code.plan.features[0].shape[1:])})


def readme(code: NetworkCode) -> str:
    """Return the text of README.md."""
    return code.fill(_read_template("readme.txt"))


def _read_template(name: str) -> str:
    return (Path(__file__).parent / name).read_text()
