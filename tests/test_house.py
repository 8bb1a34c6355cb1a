"""The rules of the house that a program can check: docstrings, the README's commands, who may print, no stray paths."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

from edgeae.cli.main import main

SOURCES = sorted((ROOT / "edgeae").rglob("*.py"))
COMMAND_LINE = ("cli", "cli_bench", "cli_compile", "cli_run", "cli_train", "console")  # which alone print and exit
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def public(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions, classes and their methods whose names are public."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{child.name}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_docstrings(path: Path) -> None:
    module = parsed(path)
    assert ast.get_docstring(module) or path.stem == "_version", "the module has no docstring"
    # A property, or a method that overrides one, may be named well enough; functions and classes may not.
    bare = [name for name, node in public(module) if "." not in name and not ast.get_docstring(node)]
    assert not bare, f"without a docstring: {', '.join(bare)}"


def test_commands_are_explained() -> None:
    for name, command in main.commands.items():
        short = command.get_short_help_str(100)
        assert short.endswith(".") and not short.endswith("..."), f"{name}: {short!r} is cut in the list of commands"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_the_readme_shows_every_command(command: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"edgeae {command} " in readme.replace("\n", " ")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if path.stem in COMMAND_LINE:
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("print", "exit", "sys.exit", "os._exit", "click.echo"), f"line {node.lineno}: {name}"
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            modules.append((node.module or "").removeprefix("edgeae."))
        assert not {"click", *COMMAND_LINE} & set(modules), "the library does not know the command line"


def repository_files() -> list[Path]:
    """Every file that is in the repository, or would be after `git add`."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_paths_of_a_machine() -> None:
    # Put together here, so that this file does not hold them.
    forbidden = [f"/{name}/".encode() for name in ("work", "root", "tmp", "Users")]
    forbidden += [b"/home/" + name for name in (b"user", b"ubuntu", b"runner")]
    found = [
        f"{path.relative_to(ROOT)}: {text.decode()}"
        for path in repository_files()
        for text in forbidden
        if text in path.read_bytes()
    ]
    assert not found


def test_files_are_small_enough_to_read() -> None:
    """A file past 350 lines needs a reason; these have one."""
    reasons = {
        "training": "the step, the loop and the run folder",
        "faces": "one drawing",
        "restoring": "one photo from file to file",
    }
    long = {path.stem for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > 350}
    assert long <= set(reasons)


def test_what_is_committed_is_small() -> None:
    for path in repository_files():
        limit = 8e6 if path.suffix == ".safetensors" else 2e6
        assert path.stat().st_size < limit, path.name
