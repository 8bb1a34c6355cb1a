"""Run a command, and turn every failure into one sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from edgeae.cli.console import Verbosity, complain
from edgeae.cli.signals import INTERRUPTED, raise_on_signals
from edgeae.errors import NO_FILES, NO_THREADS, EdgeaeError
from edgeae.runtime.guard import import_tinygrad


class Command(click.Command):
    """A command. It imports tinygrad before it runs, so that a broken tinygrad is reported in one sentence."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        if "NO_COLOR" in os.environ:  # https://no-color.org: any text but an empty one; tinygrad needs a number
            os.environ["NO_COLOR"] = str(int(os.environ["NO_COLOR"] != ""))
        import_tinygrad()
        return super().invoke(context)


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a function a `Command`, by default of the function's own name."""
    return click.command(name, cls=Command)


class Program(click.Group):
    """The group of all commands, which reports their failures and sets the exit code."""

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Read the command line. An interrupt is reported as everywhere else: click has another sentence and code."""
        try:
            return super().make_context(*args, **settings)
        except KeyboardInterrupt:
            _fail("interrupted.", INTERRUPTED, Verbosity())
            raise

    def invoke(self, context: click.Context) -> Any:
        """Run a command."""
        verbosity = context.ensure_object(Verbosity)
        for stream in (sys.stdout, sys.stderr):  # a file's name may hold characters that the terminal's encoding lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            with raise_on_signals():
                return super().invoke(context)
        except EdgeaeError as e:
            _fail(str(e), e.exit_code, verbosity)
        except KeyboardInterrupt:
            _fail("interrupted.", INTERRUPTED, verbosity)
        except BrokenPipeError:
            _discard_stdout()
            sys.exit(1)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except MemoryError:
            _fail("out of memory; try a smaller image or --batch.", 1, verbosity)
        except Exception as e:
            # Failures of files are EdgeaeErrors already, so a full disk here is that of standard output.
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                _discard_stdout()
                _fail(f"standard output cannot be written ({e.strerror}): write to another disk.", 1, verbosity)
            if isinstance(e, OSError) and e.errno in (errno.EMFILE, errno.ENFILE):
                _fail(NO_FILES, 1, verbosity)
            if isinstance(e, RuntimeError) and "start new thread" in str(e):
                _fail(NO_THREADS, 1, verbosity)
            _fail(f"unexpected {type(e).__name__}: {e}. Run with -v and report what it prints.", 1, verbosity)


def _discard_stdout() -> None:
    """Send what is left in stdout's buffer nowhere: at exit Python would fail to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, exit_code: int, verbosity: Verbosity) -> None:
    if verbosity.verbose:
        traceback.print_exc()
    complain(sentence)
    sys.exit(exit_code)
