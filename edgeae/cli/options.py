"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeae.cli.console import Verbosity

F = TypeVar("F", bound=Callable[..., Any])
PIPE = Path("-")  # standard input or output, where a path is expected


# ---- types of values ---------------------------------------------------------------------------------------------


class _Text(click.ParamType[str]):
    """Text that is not empty: an empty one is most often a variable that a script forgot to set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value):
            self.fail("is empty: give a path or a name.", param, ctx)
        return str(value)


class _Path(_Text):
    name = "path"

    def __init__(self, piped: bool = False) -> None:
        self._piped = piped  # whether - stands for standard input or output

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-" and not self._piped:
            self.fail("- is standard input or output, which cannot be used here: give a path.", param, ctx)
        path = Path(super().convert(value, param, ctx))
        if not path.parts[:1] or not path.parts[0].startswith("~") or os.path.lexists(path.parts[0]):
            return path
        try:
            return path.expanduser()  # shells do not where it stands after = or within quotes
        except RuntimeError:
            return path  # of no user


TEXT = _Text()
PATH, PIPED_PATH = _Path(), _Path(piped=True)
SCHEME = click.Choice(["none", "fp16", "int8", "int4"])  # how weights are stored


class Memory(click.ParamType[int]):
    """A number of bytes, such as 512M or 2G."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; K, M, G and T are powers of 1024."""
        match = re.fullmatch(r"([0-9]{1,15})\s*([KMGT]?)(i?B)?", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no size: write a number and a unit, such as 512M or 2G.", param, ctx)
        return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


class Size(click.ParamType[tuple[int, int]]):
    """Width and height in pixels, such as 640x480, each from `least` to `most`."""

    name = "size"

    def __init__(self, least: int = 8, most: int = 8192) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (width, height)."""
        match = re.fullmatch(r"([0-9]{1,5})[x×X]([0-9]{1,5})", str(value).strip())
        sides = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(self._least <= side <= self._most for side in sides):
            limits = f"from {self._least} to {self._most} pixels a side"
            self.fail(f"{value!r} is no size such as 640x480, {limits}.", param, ctx)
        return sides


class Several(click.ParamType[tuple[Any, ...]]):
    """Values of one type with commas between them."""

    name = "list"

    def __init__(self, one: click.ParamType[Any]) -> None:
        self._one = one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the values."""
        if isinstance(value, tuple):
            return value
        return tuple(self._one.convert(part.strip(), param, ctx) for part in str(value).split(","))


class Positive(click.ParamType[float]):
    """A number above 0, and at most `most`."""

    name = "number"

    def __init__(self, most: float = 1e12) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(click.FLOAT.convert(value, param, ctx))
        if not 0 < number <= self._most:  # also refuses NaN
            self.fail(f"{value} is no number above 0 and up to {self._most:g}.", param, ctx)
        return number


# ---- options -----------------------------------------------------------------------------------------------------


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        setattr(context.ensure_object(Verbosity), parameter.name or "", True)


def _verbosity_option(*names: str, help: str) -> Callable[[F], F]:
    return click.option(*names, is_flag=True, expose_value=False, callback=_set_verbosity, help=help)


verbosity_options = [
    _verbosity_option("-q", "--quiet", help="Print errors only, and what --json asks for."),
    _verbosity_option("-v", "--verbose", help="Print a traceback with an error."),
]


def model_option(default: str) -> Callable[[F], F]:
    """Return `-m/--model`, a shipped name or a path."""
    return click.option(
        "-m",
        "--model",
        type=TEXT,
        default=default,
        show_default=True,
        metavar="MODEL",
        help="Name of a shipped model, or path of a weight file.",
    )


device_option = click.option(
    "-d",
    "--device",
    default=None,
    metavar="DEVICE",
    help="CPU, CUDA, METAL, CL, WEBGPU, NV, AMD, QCOM or auto; `edgeae devices` lists which work.  "
    "[default: EDGEAE_DEVICE, or auto]",
)


def output_option(
    help: str, default: str | None = None, required: bool = False, type: click.ParamType[Any] = PATH
) -> Callable[[F], F]:
    """Return `-o/--output`, a path."""
    # With a default, even None, click would not take a required option for missing.
    settings: dict[str, Any] = {"required": True} if required else {"default": default}
    return click.option(
        "-o", "--output", type=type, show_default=default is not None, metavar="OUT", help=help, **settings
    )


def batch_option(
    default: int = 16, most: int = 65536, help: str = "Images that go through the network at once."
) -> Callable[[F], F]:
    """Return `--batch`, a number of images."""
    return click.option("--batch", type=click.IntRange(1, most), default=default, show_default=True, help=help)


def threads_option(most: int = 1024, help: str = "CPU threads.  [default: all]") -> Callable[[F], F]:
    """Return `--threads`, a number of threads."""
    return click.option("--threads", type=click.IntRange(1, most), default=None, help=help)


memory_option = click.option(
    "--max-mem",
    type=Memory(),
    default=None,
    metavar="SIZE",
    help="Memory to use: larger images go through the network in pieces.  [default: 512M, or a quarter of the "
    "machine's memory]",
)

seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of all random numbers: the same seed gives the same result.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")

size_option = click.option(
    "--size",
    type=Size(),
    default=None,
    metavar="WxH",
    help="Size of the images in pixels.  [default: the size that the model was trained on]",
)

targets_option = click.option(
    "--targets",
    type=TEXT,
    default=None,
    metavar="DIR",
    help="Folder with the wanted output for each image, of the same name (image to image).",
)


def limit_option(least: int) -> Callable[[F], F]:
    """Return `--limit`, a number of images."""
    return click.option(
        "--limit", type=click.IntRange(least), default=None, help="Use at most this many images.  [default: all]"
    )


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return a decorator that gives a command these options in this order, and -q and -v after them."""

    def decorate(function: F) -> F:
        for decorator in reversed([*decorators, *verbosity_options]):
            function = decorator(function)
        return function

    return decorate
