"""Arguments in the library's sentences, and the flags that the command line prints for them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from helpers import ROOT, error, run

from edgeae.cli import flags
from edgeae.cli.main import main

LIBRARY = sorted(path for path in (ROOT / "edgeae").rglob("*.py") if path.parent.name != "cli")
FLAG = re.compile(r"(?:^|[\s(])--?[a-zA-Z]")
# Commands of other programs that a sentence may advise, and their own arguments.
OTHER_PROGRAMS = re.compile(
    r"docker run --gpus all|softwareupdate --install --all|usermod -aG|pip install -U edgeae|ulimit -[nuv]|sudo -H|"
    r"-target-|^--\w+="
)


def sentences(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string literals of a module, docstrings and arguments for other programs (`"-O2"`) left out."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if is_text and (not node.value.startswith("-") or " " in node.value):
            yield node


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(ROOT / "edgeae").as_posix())
def test_no_sentence_of_the_library_has_a_flag(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [f"line {s.lineno}: {s.value}" for s in sentences(tree) if FLAG.search(OTHER_PROGRAMS.sub("", s.value))]
    assert not found, "name the argument in backticks; cli/flags.py turns it into the flag"


def named(command: str, sentence: str) -> str:
    """Return what a sentence becomes while a command runs."""
    with click.Context(main.commands[command]):
        return flags.name_flags(sentence)


@pytest.mark.parametrize(
    ("command", "sentence", "printed"),
    [
        ("run", "`strength` must be between 0 and 1, not 2.", "--strength must be between 0 and 1, not 2."),
        ("run", "give a larger `max_mem`.", "give a larger --max-mem."),
        ("run", "check that `size` is right.", "check that --raw is right."),
        ("run", "name a folder with `output`.", "name a folder with -o."),
        ("bench", "use a smaller `batch`.", "use a smaller --batch."),  # a parameter named `batches`
        ("bench", "give one with `device`.", "give one with -d."),
        ("export", "unknown `scheme`.", "unknown --quantize."),
        ("train", "choose another `run`.", "choose another -o."),
        ("verify", "lower `max_mem`.", "lower `max_mem`."),  # no such flag
        ("verify", "`edgeae devices` says why.", "`edgeae devices` says why."),
    ],
)
def test_arguments_become_flags_of_the_command(command: str, sentence: str, printed: str) -> None:
    assert named(command, sentence) == printed


def test_sentences_stay_as_they_are_without_a_command() -> None:
    assert flags.name_flags("`strength` is wrong.") == "`strength` is wrong."


def test_every_special_flag_exists() -> None:
    for command, table in flags._RENAMED.items():
        options = {flag for option in main.commands[command].params for flag in option.opts}
        assert set(table.values()) <= options


def test_an_error_names_the_flag(tmp_path: Path) -> None:
    result = run("train", "conv", "--data", "faces", "--targets", tmp_path, "-o", tmp_path / "run", code=2)
    assert error(result).startswith("--targets cannot be used with the built-in set faces: give a folder as --data.")
