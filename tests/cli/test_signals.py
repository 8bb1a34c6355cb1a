"""Ctrl-C and SIGTERM end a command by an exception."""

import signal
import sys
import time
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from edgeae.cli import program


@pytest.fixture
def sigint() -> Iterator[None]:
    """Give SIGINT Python's own handler: a shell makes programs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("freed", [False, True], ids=["anywhere", "in a finalizer"])
def test_signals_raise_and_none_is_lost(
    number: signal.Signals, code: int, freed: bool, sigint: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", kept)  # put back at the end

    class Buffer:
        def __del__(self) -> None:
            signal.raise_signal(number)

    @click.command(cls=program.Command)
    def command() -> None:
        if freed:
            Buffer()  # Python drops what is raised while it frees this
        else:
            signal.raise_signal(number)
        time.sleep(5)
        raise AssertionError("the signal was lost")

    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    result = CliRunner().invoke(program.Program(commands={"command": command}), ["command"])
    assert result.exit_code == code
    assert result.output == ("edgeae: interrupted.\n" if code == 130 else "")
    assert before == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    assert sys.unraisablehook is not kept  # half-made objects that fail when they are freed at exit are not reported


def test_an_ignored_signal_stays_ignored(sigint: None) -> None:
    @click.command(cls=program.Command)
    def command() -> None:
        signal.raise_signal(signal.SIGINT)
        click.echo("done")

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    assert CliRunner().invoke(program.Program(commands={"command": command}), ["command"]).output == "done\n"
