"""What the commands share: text, JSON, the status line, and errors as one line."""

import io
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgeae import formatting as text
from edgeae.cli import console, program, progress
from edgeae.cli.options import options


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT as Python has it, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stderr_as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of stderr. (No fixture: pytest puts its own stderr back between set-up and test.)"""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def printed(function: Any, *arguments: str) -> Any:
    """What a command that calls `function` prints."""

    @click.command(cls=click.Command)
    @options()
    def command() -> None:
        function()

    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (75, "1:15"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (90061, "25:01:01"),
        (-3, "0:00"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_duration(seconds: float, wanted: str) -> None:
    assert text.duration(seconds) == wanted


def test_table() -> None:
    lines = text.table(["name", "bytes"], [["a", "1,000"], ["longer", "7"]], right=[1])
    assert lines == ["name    bytes", "a       1,000", "longer      7"]
    assert text.table(["device", ""], [["CPU", ""]]) == ["device", "CPU"]


@dataclass
class Inner:
    value: float
    path: Path


def test_emit_json_holds_what_json_lacks() -> None:
    document = {
        "inner": Inner(math.nan, Path("a/b")),
        "many": (Inner(math.inf, Path("c")), 1, None, True),
        "name": "ünï\udcff\n",
    }
    text = printed(lambda: console.emit(document, "text", as_json=True)).stdout
    assert json.loads(text) == {
        "inner": {"value": None, "path": "a/b"},
        "many": [{"value": None, "path": "c"}, 1, None, True],
        "name": "ünï\udcff\n",
    }
    assert text.isascii()  # so that it comes through whatever the terminal's encoding is


def test_emit_text() -> None:
    assert printed(lambda: console.emit({}, "one", as_json=False)).stdout == "one\n"
    assert printed(lambda: console.emit({}, ["one", "two"], as_json=False)).stdout == "one\ntwo\n"
    assert printed(lambda: console.emit({}, [], as_json=False)).stdout == ""


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_keeps_all_but_json_back(flag: str) -> None:
    def both(as_json: bool) -> None:
        console.note("a note")
        console.emit([1], "text", as_json)

    loud = printed(lambda: both(False))
    assert (loud.stdout, loud.stderr) == ("text\n", "a note\n")
    assert printed(lambda: both(False), flag).output == ""
    quiet = printed(lambda: both(True), flag)
    assert json.loads(quiet.stdout) == [1] and quiet.stderr == ""


def test_complain_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.complain("a\nb.png\t cannot be\r\nread.")
    assert capsys.readouterr() == ("", "edgeae: a b.png cannot be read.\n")


def test_complain_in_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = stderr_as_terminal(monkeypatch)
    console.complain("no.")
    assert terminal.getvalue() == "\033[31m\033[1medgeae:\033[0m no.\n"
    terminal.truncate(0)
    terminal.seek(0)
    monkeypatch.setenv("NO_COLOR", "1")
    console.complain("no.")
    assert terminal.getvalue() == "edgeae: no.\n"


def test_status_line_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = stderr_as_terminal(monkeypatch)
    line = progress.ProgressBar()
    line.show(1, 4, "1/4 a.png")
    line.show(4, 4, "4/4 d.png")
    line.clear()
    erase = "\r\033[2K"
    assert terminal.getvalue() == f"{erase}{'█' * 6}{'░' * 18} 1/4 a.png{erase}{'█' * 24} 4/4 d.png{erase}"
    progress.ProgressBar().show(0, 0, "nothing to do")  # no division by zero


def test_status_line_is_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    line = progress.ProgressBar()
    line.show(1, 2, "half")
    line.clear()
    assert capsys.readouterr() == ("", "")


def test_status_line_is_silent_with_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        terminal = stderr_as_terminal(monkeypatch)
        progress.ProgressBar().show(1, 2, "half")
        assert terminal.getvalue() == ""

    printed(show, "-q")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("freed", [False, True], ids=["anywhere", "in a finalizer"])
def test_no_signal_is_lost(
    number: signal.Signals, code: int, freed: bool, heeded: None, monkeypatch: pytest.MonkeyPatch
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
    assert sys.unraisablehook is not kept  # what is half made may fail when it is freed at exit: nobody wants to know


def test_a_signal_that_is_ignored_stays_so(heeded: None) -> None:
    @click.command(cls=program.Command)
    def command() -> None:
        signal.raise_signal(signal.SIGINT)
        click.echo("done")

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
    assert CliRunner().invoke(program.Program(commands={"command": command}), ["command"]).output == "done\n"
