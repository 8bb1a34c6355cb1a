"""The architecture as the imports have it: each room imports only rooms below it, and there is no circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "edgeae"
# From the top down. A module may import its own room and those below; `engine` and `data` do not know each other.
ROOMS = (
    "cli",
    "benchmark",
    "exporting",
    "training",
    "inference",
    "engine",
    "data",
    "network",
    "images",
    "runtime",
    "",  # edgeae/*.py: errors, files, config, formatting, and names that come with their first use
)
FILES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def room_of(module: str) -> str:
    """`edgeae.images.files.exif` → `images`; a module on the top level belongs to the lowest room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or (len(parts) == 2 and f"{module}.__init__" in FILES) else ""


def imports(path: Path) -> Iterator[str]:
    """Names of this package's modules that a file imports, wherever in it; for type checkers alone does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which room it is from"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULES else node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


GRAPH = {name: {m for m in imports(path) if m in MODULES and m != name} for name, path in MODULES.items()}


def test_every_folder_is_a_room() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_imports_go_downwards(module: str) -> None:
    if module == "edgeae.__main__":  # starts the command line
        return
    above = ROOMS[: ROOMS.index(room_of(module))]
    upwards = sorted(name for name in GRAPH[module] if room_of(name) in above)
    assert not upwards, f"{module} imports from a room above it: {', '.join(upwards)}"


def test_no_circles() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))
