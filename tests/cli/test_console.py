"""Printing: text, JSON, -q, and errors as one line."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.printing import output_of, terminal_as_stderr

from edgeae.cli import console


@dataclass
class Inner:
    value: float
    path: Path


def test_emit_json() -> None:
    document = {
        "inner": Inner(math.nan, Path("a/b")),
        "many": (Inner(math.inf, Path("c")), 1, None, True),
        "name": "ünï\udcff\n",
    }
    text = output_of(lambda: console.emit(document, "text", as_json=True)).stdout
    assert json.loads(text) == {
        "inner": {"value": None, "path": "a/b"},
        "many": [{"value": None, "path": "c"}, 1, None, True],
        "name": "ünï\udcff\n",
    }
    assert text.isascii()  # so that it comes through whatever the terminal's encoding is


def test_emit_text() -> None:
    assert output_of(lambda: console.emit({}, "one", as_json=False)).stdout == "one\n"
    assert output_of(lambda: console.emit({}, ["one", "two"], as_json=False)).stdout == "one\ntwo\n"
    assert output_of(lambda: console.emit({}, [], as_json=False)).stdout == ""


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_keeps_all_but_json_back(flag: str) -> None:
    def both(as_json: bool) -> None:
        console.note("a note")
        console.emit([1], "text", as_json)

    loud = output_of(lambda: both(False))
    assert (loud.stdout, loud.stderr) == ("text\n", "a note\n")
    assert output_of(lambda: both(False), flag).output == ""
    quiet = output_of(lambda: both(True), flag)
    assert json.loads(quiet.stdout) == [1] and quiet.stderr == ""


@pytest.mark.parametrize(("quiet", "printed"), [(False, "note: half is lost\\n.\n"), (True, "")])
def test_what_the_library_logs(quiet: bool, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("edgeae")
    with console.show_log(console.Verbosity(quiet=quiet)):
        logger.info("not for users")
        logger.warning("%s is lost\n.", "half")
    assert capsys.readouterr() == ("", printed) and not logger.handlers


def test_complain_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.complain("a\nb.png\t cannot be\r\nread.")
    assert capsys.readouterr() == ("", "edgeae: a b.png cannot be read.\n")


def test_complain_in_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = terminal_as_stderr(monkeypatch)
    console.complain("no.")
    assert terminal.getvalue() == "\033[31m\033[1medgeae:\033[0m no.\n"
    terminal.truncate(0)
    terminal.seek(0)
    monkeypatch.setenv("NO_COLOR", "1")
    console.complain("no.")
    assert terminal.getvalue() == "edgeae: no.\n"
