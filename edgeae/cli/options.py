"""Command-line options that several commands share, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeae.cli.console import Verbosity

F = TypeVar("F", bound=Callable[..., Any])
PIPE = Path("-")  # standard input or output, where a path is expected


class _Text(click.ParamType[str]):
    """Text that says something: an empty one is a variable that a script forgot to set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value):
            self.fail("is empty: give a path or a name.", param, ctx)
        return str(value)


class _Path(_Text):
    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return Path(super().convert(value, param, ctx))


TEXT = _Text()


PATH = _Path()


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        setattr(context.ensure_object(Verbosity), parameter.name or "", True)


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, **settings)


verbosity_options: list[Callable[[Any], Any]] = [
    _option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Print errors only, and what --json asks for.",
    ),
    _option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Print a traceback with an error.",
    ),
]


device_option = _option(
    "-d",
    "--device",
    default=None,
    metavar="DEVICE",
    help="CPU, CUDA, METAL, CL, WEBGPU, NV, AMD, QCOM or auto; `edgeae devices` tells which work.",
)


threads_option = _option("--threads", type=click.IntRange(1, 1024), default=None, help="CPU threads.  [default: all]")


batch_option = _option(
    "--batch",
    type=click.IntRange(1, 65536),
    default=16,
    show_default=True,
    help="Most images that go through the network at once.",
)


seed_option = _option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything random."
)


json_option = _option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


class Memory(click.ParamType[int]):
    """A number of bytes, such as 512M or 2G."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes; K, M, G and T are powers of 1024."""
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
            self.fail(
                f"{value!r} is no size such as 640x480, from {self._least} to {self._most} pixels a side.", param, ctx
            )
        return sides


def model_option(default: str) -> Callable[[F], F]:
    """`-m/--model`, a shipped name or a path."""
    return click.option(
        "-m",
        "--model",
        type=TEXT,
        default=default,
        show_default=True,
        metavar="MODEL",
        help="A shipped model's name or the path of a weight file.",
    )


def output_option(help: str, default: str | None = None, required: bool = False) -> Callable[[F], F]:
    """`-o/--output`, a path."""
    settings: dict[str, Any] = {"required": True} if required else {"default": default}  # a default would be no lack
    return click.option(
        "-o", "--output", type=PATH, show_default=default is not None, metavar="OUT", help=help, **settings
    )


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options, in the order of the help text, and -q and -v after them."""

    def decorate(function: F) -> F:
        for decorator in reversed([*decorators, *verbosity_options]):
            function = decorator(function)
        return function

    return decorate
