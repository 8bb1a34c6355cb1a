"""What the commands share: their options, how they print, and how an error becomes a sentence and an exit code.

Results go to stdout, everything else to stderr. Nothing here imports tinygrad or NumPy.
"""

from __future__ import annotations

import _thread
import errno
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

import click

from edgeae.errors import EdgeaeError
from edgeae.formatting import json_ready
from edgeae.runtime.guard import import_tinygrad

INTERRUPTED = 130  # as shells report a program that SIGINT ended
TERMINATED = 143


class Level:
    """How much goes to stderr: set by -q and -v wherever they stand on the command line."""

    quiet = False
    verbose = False


# ---- printing ----------------------------------------------------------------------------------------------------


def note(text: str) -> None:
    """A line for people, on stderr, unless -q."""
    if not _level().quiet:
        click.echo("\n".join(map(_shown, text.split("\n"))), err=True)


def emit(document: Any, text: str | Sequence[str], as_json: bool) -> None:
    """The result on stdout: as JSON, or as text, which -q keeps back."""
    if as_json:
        click.echo(json.dumps(json_ready(document), indent=2))
    elif text and not _level().quiet:
        click.echo("\n".join(map(_shown, [text] if isinstance(text, str) else text)))


def binary(stream: TextIO | None, name: str) -> BinaryIO:
    """The bytes of standard input or output. Raises EdgeaeError when the shell has closed it."""
    if stream is None:
        raise EdgeaeError(f"Standard {name} is closed: give a file instead.")
    return stream.buffer


def complain(sentence: str) -> None:
    """An error on stderr, in one line whatever a file's name holds."""
    prefix = "edgeae:"
    if _on_terminal() and os.environ.get("NO_COLOR", "") in ("", "0"):
        prefix = click.style(prefix, fg="red", bold=True)
    click.echo(f"{prefix} {_shown(' '.join(sentence.split()))}", err=True)


def _shown(line: str) -> str:
    """Without what a terminal takes as commands: a file may have any name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class StatusLine:
    """One line on stderr that is written over; silent when stderr is no terminal, or with -q."""

    def __init__(self) -> None:
        self._shown = _on_terminal() and not _level().quiet

    def show(self, done: int, total: int, text: str) -> None:
        """A bar of `done` out of `total`, and a text."""
        if self._shown:
            filled = 24 * done // max(1, total)
            click.echo(f"\r\033[2K{'█' * filled}{'░' * (24 - filled)} {_shown(text)}", nl=False, err=True)

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._shown:
            click.echo("\r\033[2K", nl=False, err=True)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # None where the shell has closed it


def _level() -> Level:
    context = click.get_current_context(silent=True)
    return context.ensure_object(Level) if context else Level()


# ---- errors ------------------------------------------------------------------------------------------------------


class Command(click.Command):
    """A command: imports tinygrad before it runs, so that what is wrong with it is told in one sentence."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        if "NO_COLOR" in os.environ:  # https://no-color.org: any text but an empty one; tinygrad wants a number
            os.environ["NO_COLOR"] = str(int(os.environ["NO_COLOR"] != ""))
        import_tinygrad()
        return super().invoke(context)


class Program(click.Group):
    """The command group: turns every failure into one sentence on stderr and the right exit code."""

    command_class = Command

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        """Read the command line; click itself has other words and another code for an interrupt."""
        try:
            return super().make_context(*args, **settings)
        except KeyboardInterrupt:
            _fail("interrupted.", INTERRUPTED, Level())
            raise

    def invoke(self, context: click.Context) -> Any:
        """Run a command."""
        level = context.ensure_object(Level)
        for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal's encoding lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            with _signals():
                return super().invoke(context)
        except EdgeaeError as e:
            _fail(str(e), e.exit_code, level)
        except KeyboardInterrupt:
            _fail("interrupted.", INTERRUPTED, level)
        except BrokenPipeError:
            _let_go_of_stdout()
            sys.exit(1)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except MemoryError:
            _fail("out of memory; try a smaller image or --batch.", 1, level)
        except Exception as e:
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # files tell of theirs
                _let_go_of_stdout()
                _fail(f"standard output cannot be written ({e.strerror}): write to another disk.", 1, level)
            _fail(f"unexpected {type(e).__name__}: {e}. Run with -v and report what it prints.", 1, level)


def _let_go_of_stdout() -> None:
    """Else Python complains once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM end a command by an exception, as Ctrl-C does, and neither get lost.

    tinygrad frees its buffers in finalizers, and Python drops what is raised in one. Such a signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    stopped = False
    again: list[threading.Timer] = []
    report = sys.unraisablehook

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(TERMINATED)

    def on_dropped(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit):
            number = signal.SIGINT if isinstance(dropped.exc_value, KeyboardInterrupt) else signal.SIGTERM
            again.append(threading.Timer(0.01, _send, [number]))
            again[-1].start()
        elif not stopped:  # what a signal cut short may fail once more when it is freed
            report(dropped)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    sys.unraisablehook = on_dropped
    for number in handlers:  # those that are ignored, as under nohup, stay so
        signal.signal(number, stop)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        # What was stopped while it was made may fail when it is freed, as late as at exit.
        sys.unraisablehook = (lambda dropped: None) if stopped else report
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread, also out of a call that blocks it."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


def _fail(sentence: str, code: int, level: Level) -> None:
    if level.verbose:
        traceback.print_exc()
    complain(sentence)
    sys.exit(code)
