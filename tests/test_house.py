"""Rules for the tree that a program can check: docstrings, printing, file sizes, and that the documentation is true."""

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from helpers import ROOT

from edgeae._version import __version__
from edgeae.cli.main import main

PACKAGE = ROOT / "edgeae"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])
LIMIT = 350  # lines

# Longer files, and why each is not two.
LONG_FILES = {
    "data/generated_faces.py": "one drawing",
    "engine/source.py": "one C file from its first line to its last",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    """Return a file's path inside the package, as in LONG_FILES."""
    return path.relative_to(PACKAGE).as_posix()


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def public_definitions(node: ast.Module) -> Iterator[Definition]:
    """Yield the module's functions and classes that have public names."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield child


# ---- the code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings(path: Path) -> None:
    """Every module, every folder's __init__, and every public function and class has a docstring."""
    module = parse(path)
    assert ast.get_docstring(module) or path.stem == "_version", "the module has no docstring"
    bare = [node.name for node in public_definitions(module) if not ast.get_docstring(node)]
    assert not bare, f"without a docstring: {', '.join(bare)}"


@pytest.mark.parametrize("path", [path for path in SOURCES if not name_of(path).startswith("cli/")], ids=name_of)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("print", "exit", "sys.exit", "os._exit"), f"line {node.lineno}: {name}"
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert "click" not in modules, f"line {node.lineno}: click is for the command line"


def test_files_are_short_enough_to_read() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    without_reason = sorted(name for name, count in lines.items() if count > LIMIT and name not in LONG_FILES)
    assert not without_reason, f"more than {LIMIT} lines: split the file, or say in LONG_FILES why it is one"
    # A little below the limit, so that a few lines less do not fail the test.
    out_of_date = sorted(name for name in LONG_FILES if lines.get(name, 0) < LIMIT - 50)
    assert not out_of_date, "no longer long: take it out of LONG_FILES"


# ---- the repository ----------------------------------------------------------------------------------------------


def repository_files() -> list[Path]:
    """Return every file that is in the repository, or would be after `git add`."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_paths_of_a_machine() -> None:
    # Put together here, so that this file does not contain them.
    forbidden = [f"/{name}/".encode() for name in ("work", "root", "tmp", "Users")]
    forbidden += [b"/home/" + name for name in (b"user", b"ubuntu", b"runner")]
    hits = [
        f"{path.relative_to(ROOT)}: {text.decode()}"
        for path in repository_files()
        for text in forbidden
        if text in path.read_bytes()
    ]
    assert not hits


def test_committed_files_are_small() -> None:
    for path in repository_files():
        limit = 8e6 if path.suffix == ".safetensors" else 2e6
        assert path.stat().st_size < limit, path.name


# ---- the documentation -------------------------------------------------------------------------------------------


def test_the_changelog_opens_with_this_version() -> None:
    headings = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == __version__, "edgeae/_version.py and CHANGELOG.md name different versions"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_commands_are_explained(command: str) -> None:
    short = main.commands[command].get_short_help_str(100)
    assert short.endswith(".") and not short.endswith("..."), f"{short!r} is cut in the list of commands"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_the_readme_shows_every_command(command: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"edgeae {command} " in readme.replace("\n", " ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files that a page links to or names exist, and so do the headings that it links to."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in anchors(linked), f"{page.name}: {target}"
    for name in re.findall(r"\b(?:edgeae|tools|tests|examples|docs)/[\w/-]+\.(?:py|c|h|md|json)\b", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_commands_have_these_options(page: Path) -> None:
    for line in shown_lines(page):
        words = shlex.split(line.partition("edgeae ")[2].partition(" | ")[0], comments=True)
        if not words or words[0] not in main.commands:
            continue
        command = main.commands[words[0]]
        known = {opt for param in command.params if isinstance(param, click.Option) for opt in param.opts}
        known |= {opt for param in command.params if isinstance(param, click.Option) for opt in param.secondary_opts}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
        assert not unknown, f"{page.name}: {line}"


def shown_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's code blocks that run `edgeae`, continued lines joined."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*|(?<=\|)\n\s*", " ", block).splitlines():
            if re.match(r"\s*(?:\S+/)?edgeae |.*\| edgeae ", line):
                yield line
