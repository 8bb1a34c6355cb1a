"""The progress bar: drawn over itself on a terminal, and silent elsewhere."""

import pytest
from helpers.printing import output_of, terminal_as_stderr

from edgeae.cli import progress


def test_the_bar_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    line = progress.ProgressBar()
    line.show(1, 4, "1/4 a.png")
    line.show(4, 4, "4/4 d.png")
    line.clear()
    erase = "\r\033[2K"
    assert terminal.getvalue() == f"{erase}{'█' * 6}{'░' * 18} 1/4 a.png{erase}{'█' * 24} 4/4 d.png{erase}"
    progress.ProgressBar().show(0, 0, "nothing to do")  # no division by zero


def test_the_bar_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = progress.ProgressBar()
    line.show(1, 2, "half")
    line.clear()
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_silent_with_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        terminal = terminal_as_stderr(monkeypatch)
        progress.ProgressBar().show(1, 2, "half")
        assert terminal.getvalue() == ""

    output_of(show, "-q")
