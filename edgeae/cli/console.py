"""Print results on stdout, as text or JSON, and everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

import click

from edgeae.cli.flags import name_flags
from edgeae.errors import EdgeaeError
from edgeae.formatting import json_ready


@dataclass
class Verbosity:
    """How much a command prints; set by -q and -v wherever they stand on the command line.

    Attributes:
        quiet: print errors only, and JSON.
        verbose: print a traceback with an error.
    """

    quiet: bool = False
    verbose: bool = False


def emit(document: Any, text: str | Sequence[str], as_json: bool) -> None:
    """Print a result on stdout: `document` as JSON, or the lines of `text`, unless -q."""
    if as_json:
        click.echo(json.dumps(json_ready(document), indent=2))
    elif text and not is_quiet():
        click.echo("\n".join(map(printable, [text] if isinstance(text, str) else text)))


def note(text: str) -> None:
    """Print lines about the work on stderr, unless -q."""
    if not is_quiet():
        click.echo("\n".join(map(printable, text.split("\n"))), err=True)


@contextmanager
def show_log(verbosity: Verbosity) -> Iterator[None]:
    """Print what the library logs as a warning inside the block on stderr, unless -q."""
    import logging  # here, so that `--help` does not wait for it

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not verbosity.quiet:  # not `is_quiet`: the record may come from another thread
                click.echo(printable(f"note: {record.getMessage()}"), err=True)

    logger, printer = logging.getLogger("edgeae"), Printer(logging.WARNING)
    logger.addHandler(printer)
    try:
        yield
    finally:
        logger.removeHandler(printer)


def complain(sentence: str) -> None:
    """Print an error on stderr, always as one line, with flags for the arguments that it names."""
    prefix = "edgeae:"
    if is_terminal() and os.environ.get("NO_COLOR", "") in ("", "0"):
        prefix = click.style(prefix, fg="red", bold=True)
    click.echo(f"{prefix} {printable(' '.join(name_flags(sentence).split()))}", err=True)


def binary(stream: TextIO | None, name: str) -> BinaryIO:
    """Return standard input or output, called `name`, as a stream of bytes.

    Raises:
        EdgeaeError: the shell has closed it.
    """
    if stream is None:
        raise EdgeaeError(f"Standard {name} is closed: give a file instead.")
    return stream.buffer


def printable(line: str) -> str:
    """Escape the characters that a terminal takes as commands: the name of a file may hold them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def is_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()  # None where the shell has closed it


def is_quiet() -> bool:
    """Return whether the running command has -q."""
    context = click.get_current_context(silent=True)
    return context is not None and context.ensure_object(Verbosity).quiet
