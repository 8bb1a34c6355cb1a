"""What a function prints: run as a command, or on a terminal."""

import io
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgeae.cli.options import options


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of stderr. (No fixture: pytest resets stderr between set-up and test.)"""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def output_of(function: Any, *arguments: str) -> Any:
    """Run `function` as a command with these arguments, and return the result."""

    @click.command(cls=click.Command)
    @options()
    def command() -> None:
        function()

    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result
