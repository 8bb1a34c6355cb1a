"""What the system refuses is named in one sentence."""

import errno
import os

import click
import pytest
from click.testing import CliRunner

from edgeae.cli import program
from edgeae.errors import NO_FILES, NO_THREADS
from edgeae.runtime.guard import mend_for


def _caused() -> Exception:
    error = ValueError("something else")
    error.__cause__ = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return error


ERRORS = {
    "files of the process": (OSError(errno.EMFILE, "x"), NO_FILES),
    "files of the system": (OSError(errno.ENFILE, "x"), NO_FILES),
    "threads": (RuntimeError("can't start new thread"), NO_THREADS),
    "processes": (BlockingIOError(errno.EAGAIN, "x"), NO_THREADS),
    "address space": (OSError(errno.ENOMEM, "x"), "out of memory"),
    "memory": (MemoryError(), "out of memory"),
    "behind another error": (_caused(), NO_FILES),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_limit_of_the_system(name: str) -> None:
    raised, says = ERRORS[name]

    @click.command(cls=program.Command)
    def command() -> None:
        raise raised

    result = CliRunner().invoke(program.Program(commands={"command": command}), ["command"])
    assert result.exit_code == 1 and says in result.stderr and "unexpected" not in result.stderr


def test_what_mends_a_device() -> None:
    assert "ulimit -u" in mend_for("CPU", "can't start new thread")
    assert "ulimit -n" in mend_for("CPU", "[Errno 24] Too many open files")
