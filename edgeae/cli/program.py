"""Run a command, and turn every failure into one sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeae.cli.console import Verbosity, complain, show_log
from edgeae.cli.flags import describe_lack_of_memory
from edgeae.cli.signals import INTERRUPTED, raise_on_signals
from edgeae.errors import NO_FILES, NO_THREADS, EdgeaeError, OutOfMemoryError
from edgeae.runtime.guard import import_tinygrad


class Command(click.Command):
    """A command. It imports tinygrad before it runs, so that a broken tinygrad is reported in one sentence."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        if "NO_COLOR" in os.environ:  # https://no-color.org: any text but an empty one; tinygrad needs a number
            os.environ["NO_COLOR"] = str(int(os.environ["NO_COLOR"] != ""))
        with show_log(context.ensure_object(Verbosity)):
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
        except OutOfMemoryError as e:
            _fail(describe_lack_of_memory(e.what), e.exit_code, verbosity)
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
            _fail(describe_lack_of_memory("out of memory"), 1, verbosity)
        except Exception as e:
            # Failures of files are EdgeaeErrors already, so a full disk here is that of standard output.
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                _discard_stdout()
                _fail(f"standard output cannot be written ({e.strerror}): write to another disk.", 1, verbosity)
            if isinstance(e, FileNotFoundError) and _is_current_folder_gone():
                _fail("the current folder is gone: change to one that exists.", 1, verbosity)
            if cause := _system_limit(e):
                _fail(cause, 1, verbosity)
            _fail(f"unexpected {type(e).__name__}: {e}. Run with -v and report what it prints.", 1, verbosity)


def _system_limit(error: BaseException) -> str:
    """Return the sentence for an error, or for one that led to it, by which the system refuses more of something."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            return NO_FILES
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return describe_lack_of_memory("out of memory")
        no_thread = isinstance(cause, RuntimeError) and "can't start new thread" in str(cause)
        if no_thread or (isinstance(cause, OSError) and cause.errno == errno.EAGAIN):
            return NO_THREADS
        cause = cause.__cause__ or cause.__context__
    return ""


def _is_current_folder_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _discard_stdout() -> None:
    """Send what is left in stdout's buffer nowhere: at exit Python would fail to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, exit_code: int, verbosity: Verbosity) -> None:
    if verbosity.verbose:
        traceback.print_exc()
    complain(sentence)
    sys.exit(exit_code)
