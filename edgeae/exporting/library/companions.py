"""Write the files that stand beside a compiled library: its header, a C example, a Python wrapper, and a README."""

from __future__ import annotations

import re
from pathlib import Path

from edgeae.engine.source import NetworkCode
from edgeae.errors import UsageError

_MOST_LETTERS = 61
# Words of C and C++, and macros and types of the headers, that cannot be the name of a structure.
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm bool class
    delete explicit export false friend mutable namespace new nullptr operator private protected public template this
    throw true try catch typeid typename using virtual and or not xor main linux unix errno stdin stdout stderr NULL
    size_t ptrdiff_t alignas alignof constexpr thread_local static_assert typeof wchar_t
"""
_FILES = ("example", "readme", "license")  # names of files beside the library, whatever their case


def check_name(name: str) -> None:
    """Check the name of a library, which begins its functions and the names of its files.

    Raises:
        UsageError: C cannot have it, or a file beside the library has it.
    """
    if not re.fullmatch(rf"[A-Za-z_]\w{{0,{_MOST_LETTERS - 1}}}", name, re.ASCII):
        shown = name if len(name) <= _MOST_LETTERS else f"{name[:20]}…"
        raise UsageError(
            f"{shown!r} cannot be the name of a C library, which has up to {_MOST_LETTERS} letters, digits and _ and "
            "begins with no digit: give another with `name`."
        )
    if name in _WORDS.split() or re.match(r"__|_[A-Z]|u?int\d+_t$", name):
        raise UsageError(f"{name!r} is a word of the C language and cannot name a library: give another with `name`.")
    if name.lower() in _FILES or name.lower().endswith("_weights"):  # NAME_weights.c is another library's
        raise UsageError(f"{name!r} is the name of another file beside the library: give another with `name`.")


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
